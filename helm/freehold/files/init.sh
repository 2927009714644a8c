# Makes the cluster of the empty nodes that wait for it: asks the first node until it answers. That there
# is a cluster already is no error, for a Job may run twice: the program makes no second one.
# Needs PEER; the program finds the certificates by FREEHOLD_CLUSTER_... .
set -u
while true; do
    if told="$(freehold init --peer "$PEER" 2>&1)"; then
        echo "$told"
        exit 0
    fi
    echo "$told"
    case "$told" in *"is in cluster"*) exit 0 ;; esac
    sleep 2
done
