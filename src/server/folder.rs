//! The data folder: made so that it survives a power cut, recognised as ours, locked.
//!
//! A folder of ours holds `identity`, a line that names the format, the member and the cluster. It
//! is written before anything else, so that a folder that has files but no such line is somebody
//! else's.

use std::path::{Path, PathBuf};

use crate::config::{Config, Identity};
use crate::error::{Error, Result};
use crate::host::{Disk, Lock, OpenMode};

const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.tmp";
/// Longer than any line that we write.
const IDENTITY_BYTES_MAX: usize = 4096;

/// Makes the folder if need be, and takes it for this process.
///
/// # Errors
/// [`Error::Config`] where it is in use, foreign, or another member's.
pub(super) async fn claim(disk: &dyn Disk, config: &Config) -> Result<Box<dyn Lock>> {
    let folder = &config.data_dir;
    create_durably(disk, folder).await?;
    // Before the lock, so that nothing is left behind in a folder that is not ours.
    is_recognised(disk, config)?;
    let path = config.lock_file();
    let lock = disk.lock(&path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::WouldBlock => Error::Config(format!(
            "data folder {} is in use by another process; stop it, or choose another --data-dir",
            folder.display()
        )),
        _ => Error::io("lock the data folder", &path, cause),
    })?;
    if !is_recognised(disk, config)? {
        write_durably(disk, folder, &folder.join(IDENTITY), &identity(config)).await?;
    }
    Ok(lock)
}

/// Who the folder belongs to; `None` where it is empty or not ours.
///
/// # Errors
/// The identity cannot be read.
pub(super) fn identity_of(disk: &dyn Disk, config: &Config) -> Result<Option<Identity>> {
    let path = config.data_dir.join(IDENTITY);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let text = read(disk, &path)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| u64::from_str_radix(word, 16).ok();
    Ok(match words[..] {
        ["snowglobe", "1", "member", member, "cluster", cluster] => number(member)
            .zip(number(cluster))
            .map(|(member_id, cluster_id)| Identity { cluster_id, member_id }),
        _ => None,
    })
}

/// Makes `folder` and what is missing above it; durable once this returns.
async fn create_durably(disk: &dyn Disk, folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !disk.exists(path)).collect();
    let cannot = |cause| {
        Error::Config(format!(
            "cannot make the data folder {}: {cause}; choose another --data-dir",
            folder.display()
        ))
    };
    disk.create_dir_all(folder).map_err(cannot)?;
    for path in missing.into_iter().rev() {
        if let Some(parent) = path.parent() {
            // The parent of a relative path's first part is the working folder.
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            disk.sync_dir(parent).await.map_err(cannot)?;
        }
    }
    Ok(())
}

/// Whether the folder has our identity; false for an empty one, an error for somebody else's.
fn is_recognised(disk: &dyn Disk, config: &Config) -> Result<bool> {
    let folder = &config.data_dir;
    let expected = identity(config);
    let path = folder.join(IDENTITY);
    if disk.exists(&path) {
        let found = read(disk, &path)?;
        if found == expected {
            return Ok(true);
        }
        return Err(Error::Config(format!(
            "data folder {} belongs to `{}`, but the flags say `{}`; start it with the flags it was \
             made with, or choose another --data-dir",
            folder.display(),
            found.trim_end(),
            expected.trim_end()
        )));
    }
    let names = disk.list(folder).map_err(|e| Error::io("list the data folder", folder, e))?;
    let ours = [IDENTITY_NEW, "lock", "lost+found"];
    if let Some(name) = names.iter().find(|name| !ours.contains(&name.as_str())) {
        return Err(Error::Config(format!(
            "data folder {} is not snowglobe's (it holds `{name}`); choose an empty folder for --data-dir",
            folder.display()
        )));
    }
    Ok(false)
}

fn identity(config: &Config) -> String {
    format!("snowglobe 1 member {:x} cluster {:x}\n", config.member_id(), config.cluster_id())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<String> {
    let failed = |cause| Error::io("read the data folder's identity", path, cause);
    let file = disk.open(path, OpenMode::Read).map_err(failed)?;
    let mut bytes = vec![0; IDENTITY_BYTES_MAX];
    let count = file.read_at(&mut bytes, 0).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

/// Written aside, synced, renamed, folder synced: there is never a half of it.
async fn write_durably(disk: &dyn Disk, folder: &Path, path: &Path, text: &str) -> Result<()> {
    let aside: PathBuf = folder.join(IDENTITY_NEW);
    let failed = |cause| Error::io("write the data folder's identity", path, cause);
    let file = disk.open(&aside, OpenMode::Create).map_err(failed)?;
    file.write_all_at(text.as_bytes(), 0).map_err(failed)?;
    file.sync().await.map_err(failed)?;
    disk.rename(&aside, path).map_err(failed)?;
    disk.sync_dir(folder).await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::host::os::OsHost;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("snowglobe-folder-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        /// The refusal of a claim, without the folder's own path.
        async fn refusal(&self, config: &Config) -> String {
            let error = claim(&*OsHost::new().disk(), config).await.err().unwrap();
            error.to_string().replace(self.0.to_str().unwrap(), "DIR")
        }

        fn config(&self) -> Config {
            Config { data_dir: self.0.join("a/b"), ..Config::default() }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = OsHost::new().disk().remove_dir_all(&self.0);
        }
    }

    /// A new folder is made and taken; a second process is refused; after the first has gone it is
    /// ours again.
    #[tokio::test]
    async fn taken_once() {
        let folder = Folder::new("once");
        let config = folder.config();
        let lock = claim(&*OsHost::new().disk(), &config).await.unwrap();
        assert_eq!(
            folder.refusal(&config).await,
            "data folder DIR/a/b is in use by another process; stop it, or choose another --data-dir"
        );
        drop(lock);
        claim(&*OsHost::new().disk(), &config).await.unwrap();
    }

    /// A folder knows whose it is, whatever the flags would say.
    #[tokio::test]
    async fn identities() {
        let folder = Folder::new("identity");
        let disk = OsHost::new().disk();
        let flags = folder.config();
        assert_eq!(identity_of(&*disk, &flags).unwrap(), None);
        let identity = Some(Identity { cluster_id: 0xc, member_id: 0xa });
        let joined = Config { identity, ..folder.config() };
        drop(claim(&*disk, &joined).await.unwrap());
        assert_eq!(identity_of(&*disk, &flags).unwrap(), identity);
        assert!(
            folder.refusal(&flags).await.contains("belongs to `snowglobe 1 member a cluster c`")
        );
        claim(&*disk, &joined).await.unwrap();
    }

    /// A folder with files of another program, or of another member, is refused and left as it was.
    #[tokio::test]
    async fn foreign_folders() {
        let folder = Folder::new("foreign");
        let config = folder.config();
        let disk = OsHost::new().disk();
        disk.create_dir_all(&config.data_dir.join("member")).unwrap();
        assert_eq!(
            folder.refusal(&config).await,
            "data folder DIR/a/b is not snowglobe's (it holds `member`); \
             choose an empty folder for --data-dir"
        );
        assert_eq!(disk.list(&config.data_dir).unwrap(), ["member"]);
        disk.remove_dir_all(&config.data_dir).unwrap();
        drop(claim(&*disk, &config).await.unwrap());
        let other = Config { initial_cluster_token: "other".into(), ..config };
        assert_eq!(
            folder.refusal(&other).await,
            "data folder DIR/a/b belongs to `snowglobe 1 member 8e9e05c52164694d cluster \
             cdf818194e3a8c32`, but the flags say `snowglobe 1 member db294881cbfac5de cluster \
             3243524c66c93892`; start it with the flags it was made with, or choose another --data-dir"
        );
    }
}
