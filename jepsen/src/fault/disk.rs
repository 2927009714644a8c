//! A disk whose power can be cut: an ext4 file system in a loop file, shut down by its own ioctl
//! without flushing its log. Needs root; no kernel module.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tokio::time::sleep;

use crate::error::{Error, Result};

/// Size of the loop file; it is sparse.
const BYTES: u64 = 8 << 30;

/// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (linux/fs/ext4/ext4.h), asked for in another
/// process, for there is no safe binding of it.
const SHUTDOWN: &str = "import fcntl, os, struct, sys; \
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// Tries to unmount before it is given up: a dying process may still hold a file.
const UNMOUNT_TRIES: u32 = 100;

/// A mounted loop file. Unmounted and removed when dropped.
pub struct LoopDisk {
    image: PathBuf,
    mounted: PathBuf,
}

impl LoopDisk {
    /// Makes and mounts a file system below `folder`. [`Error::Setup`] if this machine can't.
    pub fn make(folder: &Path) -> Result<LoopDisk> {
        let disk = LoopDisk {
            image: folder.join("disk.img"),
            mounted: folder.join("disk"),
        };
        std::fs::create_dir_all(&disk.mounted)?;
        std::fs::File::create(&disk.image)?.set_len(BYTES)?;
        let image = disk.image.as_os_str();
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(image))?;
        disk.mount()?;
        // Where the system has no Python, it shows now and not in the middle of a run.
        run(Command::new("python3").args(["-c", "import fcntl"]))?;
        Ok(disk)
    }

    /// Where the file system is.
    pub fn mounted(&self) -> &Path {
        &self.mounted
    }

    /// Puts a file there that nobody syncs: the proof that the next cut takes something.
    pub fn plant(&self) -> Result<()> {
        Ok(std::fs::write(self.canary(), "unsynced")?)
    }

    /// Cuts the power: no write that is still in memory reaches the disk any more.
    pub fn cut(&self) -> Result<()> {
        run(Command::new("python3")
            .args(["-c", SHUTDOWN])
            .arg(&self.mounted))
    }

    /// Mounts again what a disk would show after the lights went out. Whether the cut took the
    /// planted file's bytes.
    pub async fn restore(&self) -> Result<bool> {
        self.unmount().await?;
        self.mount()?;
        let left = std::fs::read(self.canary()).unwrap_or_default();
        let bit = left != b"unsynced";
        if self.canary().exists() {
            std::fs::remove_file(self.canary())?;
        }
        Ok(bit)
    }

    fn canary(&self) -> PathBuf {
        self.mounted.join("canary")
    }

    fn mount(&self) -> Result<()> {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&self.image)
            .arg(&self.mounted))
    }

    async fn unmount(&self) -> Result<()> {
        let mut last = Ok(());
        for _ in 0..UNMOUNT_TRIES {
            last = run(Command::new("umount").arg(&self.mounted));
            if last.is_ok() {
                return last;
            }
            sleep(Duration::from_millis(50)).await;
        }
        last
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // Lazily, for what may still hold a file is ending at this moment too.
        drop(run(Command::new("umount").arg("-l").arg(&self.mounted)));
        drop(std::fs::remove_file(&self.image));
    }
}

/// Runs a tool of the system; its complaint if it fails.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|e| Error::Setup(format!("{name}: {e}")))?;
    let Output { status, stderr, .. } = output;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(Error::Setup(format!("{name}: {status} {said}")))
}
