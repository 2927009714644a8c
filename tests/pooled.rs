//! PgBouncer in transaction pooling before the nodes: which server connection a transaction gets is
//! chance, and what a client has written it reads elsewhere by its token.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tests::{Cluster, Login, Session, eventually, free_ports, tool};

/// Server connections that all clients share.
const CONNECTIONS: usize = 2;
const CLIENTS: usize = 4;
const ROUNDS: usize = 10;
/// From one node to another.
const FAR: Duration = Duration::from_millis(50);

/// A PgBouncer before one port. Ends when it is dropped.
struct Pool {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pool {
    /// `None` where PgBouncer is not installed.
    fn before(target: u16) -> Option<Pool> {
        let program = tool("pgbouncer")?;
        let folder = tempfile::Builder::new()
            .prefix("pool-")
            .tempdir()
            .expect("a folder");
        // As root it changes to another user, who must find its files.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("our own folder");
        let users = folder.path().join("users");
        fs::write(&users, "\"app\" \"\"\n\"reader\" \"\"\n").expect("a file");
        let [port] = free_ports(1)[..] else {
            unreachable!("one was asked for")
        };
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={target}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = {CONNECTIONS}\n",
            users.display()
        );
        fs::write(&config, text).expect("a file");
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
        }
        let process = command.arg(&config).stderr(Stdio::null()).spawn();
        let pool = Pool {
            process: process.expect("PgBouncer starts"),
            port,
            _folder: folder,
        };
        eventually("PgBouncer listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(pool)
    }

    fn open(&self, user: &str) -> Session {
        Login::new(self.port, user, "").open().expect("a session")
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_token_goes_with_its_client_through_a_pool_to_another_node() {
    // What is acknowledged is not known yet at every node.
    let mut cluster = Cluster::start_far(3, FAR);
    cluster.ok(1, "postgres", "CREATE ROLE app LOGIN");
    cluster.ok(1, "postgres", "CREATE ROLE reader LOGIN");
    cluster.settle(
        1,
        "app",
        "CREATE TABLE IF NOT EXISTS public.note_v1 (client int, round int, PRIMARY KEY (client, round))",
    );
    cluster.ok(1, "app", "GRANT READ ON note_v1 TO reader");
    let home = cluster.leader("app");
    let other = home % 3 + 1;
    let port = |node: usize| cluster.program(node).place().port;
    let (Some(near), Some(far)) = (Pool::before(port(home)), Pool::before(port(other))) else {
        return;
    };
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (near, far) = (&near, &far);
            scope.spawn(move || {
                // Its reads are strict where it writes, whatever connection they get.
                let mut writer = near.open("app");
                let mut reader = far.open("reader");
                for round in 1..=ROUNDS {
                    writer.ok(&format!("INSERT INTO note_v1 VALUES ({client}, {round})"));
                    // `SHOW` might be answered by the connection of another client.
                    let token = writer.parameters["freehold.token"].clone();
                    let count =
                        format!("SELECT count(*) FROM public.note_v1 WHERE client = {client}");
                    reader.ok("BEGIN READ ONLY");
                    reader.ok(&format!("SET LOCAL freehold.token = '{token}'"));
                    assert_eq!(reader.value(&count), round.to_string(), "client {client}");
                    reader.ok("COMMIT");
                    assert_eq!(writer.value(&count), round.to_string());
                }
            });
        }
    });
    let shared = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'";
    let connections: usize = cluster.ok(home, "postgres", shared)[0].parse().unwrap();
    assert!(connections <= CONNECTIONS, "{connections} are not shared");
}
