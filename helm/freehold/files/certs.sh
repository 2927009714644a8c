# Makes the cluster's authority if there is none yet, and the certificate of the nodes if there is none or
# if it is for other hosts, and writes both as Secrets into /work/secrets.yaml for kubectl.
# What exists is mounted under /have. Runs in Freehold's own image; needs HOSTS and the secrets' names.
set -eu
umask 077
certs=/work/certs
rm -rf "$certs"
mkdir "$certs"

if [ -s /have/authority/ca.key ]; then
    cp /have/authority/ca.crt /have/authority/ca.key "$certs"
    echo "the authority is there already"
else
    freehold cert ca --dir "$certs"
fi

same() { [ -s "$1" ] && [ "$(cat "$1")" = "$2" ]; }
if [ -s /have/node/tls.key ] && same /have/node/hosts "$HOSTS" && same /have/node/ca.crt "$(cat "$certs/ca.crt")"; then
    cp /have/node/tls.crt "$certs/node.crt"
    cp /have/node/tls.key "$certs/node.key"
    echo "the nodes' certificate is there already"
else
    freehold cert node --dir "$certs" --name node --host "$HOSTS"
fi

# secret NAME TYPE KEY=FILE...
secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n' "$1"
    printf '  labels:\n    app.kubernetes.io/name: "%s"\n    app.kubernetes.io/instance: "%s"\n' "$NAME" "$INSTANCE"
    printf 'type: %s\ndata:\n' "$2"
    shift 2
    for pair in "$@"; do
        printf '  %s: %s\n' "${pair%%=*}" "$(base64 -w 0 <"${pair#*=}")"
    done
}
printf '%s' "$HOSTS" >"$certs/hosts"
{
    secret "$AUTHORITY_SECRET" Opaque ca.crt="$certs/ca.crt" ca.key="$certs/ca.key"
    secret "$NODE_SECRET" kubernetes.io/tls ca.crt="$certs/ca.crt" tls.crt="$certs/node.crt" \
        tls.key="$certs/node.key" hosts="$certs/hosts"
} >/work/secrets.yaml
