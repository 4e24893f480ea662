//! Whether somebody else could have written what the agent is about to run or to follow.
//!
//! A program or a template has the agent's rights. Whoever may write it, or put another in
//! its place, has them too; so the file and every folder above it are looked at. What lies
//! on a file system that is mounted read-only cannot be written at all: Kubernetes mounts
//! ConfigMaps so, in folders that are open to everybody.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

/// Write permission of the group, and of everybody.
const GROUP: u32 = 0o020;
const EVERYBODY: u32 = 0o002;

/// In such a folder only owners may replace their own files.
const STICKY: u32 = 0o1000;

/// The file behind all symbolic links, if nobody but root and the agent's own user may
/// write or replace it. Blocks for as long as the file system does.
///
/// # Errors
/// Why it is not used, and what to do, in words.
pub(super) fn vetted(path: &Path) -> Result<PathBuf, String> {
    let real = fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let meta = fs::metadata(&real).map_err(|error| format!("{}: {error}", real.display()))?;
    if !meta.is_file() {
        return Err(format!("{} is not a file", real.display()));
    }
    if is_read_only(&real) {
        return Ok(real);
    }
    refuse(&real, &meta)?;
    for folder in real.ancestors().skip(1) {
        let meta =
            fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if meta.mode() & STICKY == 0 {
            refuse(folder, &meta)?;
        }
    }
    Ok(real)
}

/// A program by its path, or by its name in one of the folders of `PATH`; vetted.
///
/// # Errors
/// As [`vetted`], or that there is none.
pub(super) fn program(name: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return vetted(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|file| {
            fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
        });
    match found {
        Some(file) => vetted(&file),
        None => Err(format!("there is no program '{name}' in any folder of PATH")),
    }
}

fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// Refuses what others may write. The group of root is root's.
fn refuse(path: &Path, meta: &Metadata) -> Result<(), String> {
    let own = rustix::process::geteuid().as_raw();
    let who = if meta.uid() != 0 && meta.uid() != own {
        format!("its owner, user {},", meta.uid())
    } else if meta.mode() & EVERYBODY != 0 {
        "everybody".to_owned()
    } else if meta.mode() & GROUP != 0 && meta.gid() != 0 {
        format!("group {}", meta.gid())
    } else {
        return Ok(());
    };
    Err(format!(
        "{} is refused: {who} may write it, and what is in it is done with the agent's rights; \
         give it to root or to the agent's user and take the permission from others (chmod go-w)",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_may_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("program");
        fs::write(&file, "").unwrap();
        // What is in a test's folder is its user's, whose group may be anybody's.
        for (of_file, of_folder, good) in [
            (0o755, 0o755, true),
            (0o644, 0o700, true),
            (0o757, 0o755, false),
            (0o755, 0o777, false),
            (0o755, 0o1777, true),
            (0o602, 0o755, false),
        ] {
            chmod(&file, of_file);
            chmod(&folder, of_folder);
            let answer = vetted(&file);
            assert_eq!(answer.is_ok(), good, "{of_file:o} in {of_folder:o}: {answer:?}");
            // A link to it changes nothing.
            let link = directory.path().join("link");
            let _none_yet = fs::remove_file(&link);
            std::os::unix::fs::symlink(&file, &link).unwrap();
            assert_eq!(vetted(&link), answer);
        }
    }

    #[test]
    fn a_group_counts_unless_it_is_roots() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("program");
        fs::write(&file, "").unwrap();
        chmod(&file, 0o775);
        let of_root = fs::metadata(&file).unwrap().gid() == 0;
        assert_eq!(vetted(&file).is_ok(), of_root);
    }

    #[test]
    fn programs_are_looked_for_in_the_path() {
        assert!(program("sh").unwrap().is_absolute());
        assert!(program("no-such-program-anywhere").unwrap_err().contains("PATH"));
        assert!(program("/no/such/program").is_err());
        assert!(program("/").unwrap_err().contains("not a file"));
    }
}
