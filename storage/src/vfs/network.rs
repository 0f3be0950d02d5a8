//! Which file systems are network ones: their locks and memory maps cannot be trusted.

use std::io;
use std::path::Path;

/// The name of the network file system under the path or its nearest existing parent.
#[cfg(target_os = "linux")]
pub(super) fn kind(path: &Path) -> io::Result<Option<String>> {
    let Some(existing) = path
        .ancestors()
        .map(|ancestor| {
            if ancestor.as_os_str().is_empty() {
                Path::new(".")
            } else {
                ancestor
            }
        })
        .find(|ancestor| ancestor.exists())
    else {
        return Ok(None);
    };
    let magic = linux::magic(existing)?;
    if magic == linux::FUSE {
        // One number for every file system in user space: the mount table has the name.
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let absolute = existing.canonicalize()?;
        return Ok(linux::network_fuse(&table, &absolute));
    }
    Ok(linux::network_name(magic).map(str::to_owned))
}

/// Elsewhere nothing is told apart yet, and the path counts as local.
#[cfg(not(target_os = "linux"))]
pub(super) fn kind(_path: &Path) -> io::Result<Option<String>> {
    Ok(None)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::CString;
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    /// `f_type` of file systems in user space; this and the others from statfs(2).
    pub(super) const FUSE: u32 = 0x6573_5546;

    pub(super) fn magic(path: &Path) -> io::Result<u32> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut status = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: `path` ends in a zero byte and `status` has room for one `statfs`.
        if unsafe { libc::statfs(path.as_ptr(), status.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so the system has filled `status`.
        let status = unsafe { status.assume_init() };
        // The type differs between targets; every magic number fits 32 bits.
        #[allow(clippy::unnecessary_cast)]
        Ok(status.f_type as u32)
    }

    pub(super) fn network_name(magic: u32) -> Option<&'static str> {
        Some(match magic {
            0x6969 => "nfs",
            0x517B => "smb",
            0xFF53_4D42 => "cifs",
            0xFE53_4D42 => "smb2",
            0x0102_1997 => "9p",
            0x5346_414F => "afs",
            0x7375_7245 => "coda",
            0x0BD0_0BD0 => "lustre",
            0x564C => "ncp",
            _ => return None,
        })
    }

    /// The network file systems in user space, by the name after `fuse.` in the mount table.
    const NETWORK_FUSE: [&str; 12] = [
        "sshfs",
        "rclone",
        "glusterfs",
        "s3fs",
        "gcsfuse",
        "smbnetfs",
        "davfs",
        "davfs2",
        "goofys",
        "curlftpfs",
        "mount-s3",
        "blobfuse2",
    ];

    /// The kind of the mount with the longest mount point above the path, if it is a network one.
    pub(super) fn network_fuse(mountinfo: &str, path: &Path) -> Option<String> {
        let (_, kind) = mountinfo
            .lines()
            .filter_map(|line| {
                let (mount, rest) = line.split_once(" - ")?;
                let point = mount.split(' ').nth(4)?.replace("\\040", " ");
                let kind = rest.split(' ').next()?;
                path.starts_with(&point).then_some((point.len(), kind))
            })
            .max_by_key(|(length, _)| *length)?;
        let name = kind.strip_prefix("fuse.")?;
        NETWORK_FUSE.contains(&name).then(|| kind.to_owned())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    // B102
    #[test]
    fn a_local_folder_is_local_also_before_it_exists() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(kind(&folder.path().join("not/yet/there")).unwrap(), None);
        assert_eq!(kind(Path::new("not-there-relative")).unwrap(), None);
    }

    // B102
    #[test]
    fn network_file_systems_are_named() {
        assert_eq!(linux::network_name(0x6969), Some("nfs"));
        assert_eq!(linux::network_name(0xEF53), None);
        let table = "22 1 254:1 / / rw - ext4 /dev/vda rw\n\
                     40 22 0:50 / /mnt/far\\040away rw,nosuid - fuse.sshfs me@there: rw\n\
                     41 22 0:51 / /mnt/near rw - fuse.ntfs-3g /dev/sdb1 rw\n";
        let far = linux::network_fuse(table, Path::new("/mnt/far away/db"));
        assert_eq!(far.as_deref(), Some("fuse.sshfs"));
        assert_eq!(linux::network_fuse(table, Path::new("/mnt/near/db")), None);
        assert_eq!(linux::network_fuse("nonsense\n - \n", Path::new("/x")), None);
    }
}
