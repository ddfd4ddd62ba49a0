//! Mounted file systems and how full they are (`/proc/1/mounts`, `statfs`).

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use parking_lot::Mutex;

use super::Host;
use super::families::Families;

/// Sizes of one file system.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FilesystemUsage {
    /// Bytes altogether.
    pub size_bytes: f64,
    /// Bytes not used.
    pub free_bytes: f64,
    /// Bytes others than root may still use.
    pub available_bytes: f64,
    /// File nodes altogether.
    pub files: f64,
    /// File nodes not used.
    pub files_free: f64,
}

/// Asks the kernel.
pub(super) fn usage_of(path: &Path) -> io::Result<FilesystemUsage> {
    let stat = rustix::fs::statfs(path)?;
    let block = stat.f_bsize as f64;
    Ok(FilesystemUsage {
        size_bytes: stat.f_blocks as f64 * block,
        free_bytes: stat.f_bfree as f64 * block,
        available_bytes: stat.f_bavail as f64 * block,
        files: stat.f_files as f64,
        files_free: stat.f_ffree as f64,
    })
}

/// How long a file server may take to answer. node_exporter's default mount timeout.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// Mount points whose server did not answer; not asked again until it does.
#[derive(Debug, Clone, Default)]
pub(super) struct Stuck(Arc<Mutex<HashSet<PathBuf>>>);

impl Stuck {
    /// Asks on a thread of its own: a call to a server that is gone never returns.
    fn ask(&self, path: PathBuf, ask: super::UsageOf) -> io::Result<FilesystemUsage> {
        if !self.0.lock().insert(path.clone()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let (sender, receiver) = sync_channel(1);
        let stuck = self.clone();
        std::thread::Builder::new().name("statfs".to_owned()).spawn(move || {
            let usage = ask(&path);
            stuck.0.lock().remove(&path);
            // Nobody waits any more if it took too long.
            let _ = sender.send(usage);
        })?;
        receiver
            .recv_timeout(ANSWER_TIME_MAX)
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Kinds without contents of their own; node_exporter's default.
const KINDS_LEFT_OUT: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];

/// Mount points left out, with everything below; node_exporter's default.
const PLACES_LEFT_OUT: &[&str] = &["/dev", "/proc", "/sys"];

/// Places below which mount points are left out; node_exporter's default.
const BELOW_LEFT_OUT: &[&str] =
    &["/run/credentials/", "/var/lib/docker/", "/var/lib/containers/storage/"];

struct Mount {
    labels: [String; 3],
    is_read_only: bool,
    usage: io::Result<FilesystemUsage>,
}

pub(super) fn collect(host: &Host, families: &mut Families<'_>) -> io::Result<()> {
    let text = host.root.read("proc/1/mounts").or_else(|_| host.root.read("proc/self/mounts"))?;
    let mut mounts: Vec<Mount> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [device, place, kind, options, ..] = words[..] else {
            return Err(super::malformed("mounts"));
        };
        let (device, place) = (unescaped(device), unescaped(place));
        let labels = [device, kind.to_owned(), place];
        if is_left_out(kind, &labels[2]) || mounts.iter().any(|m| m.labels == labels) {
            continue;
        }
        let path = host.root.path.join(labels[2].trim_start_matches('/'));
        let usage = match is_remote(kind) {
            true => host.stuck.ask(path, host.usage_of),
            false => (host.usage_of)(&path),
        };
        let is_read_only = options.split(',').any(|option| option == "ro");
        mounts.push(Mount { labels, is_read_only, usage });
    }
    write(families, &mounts);
    Ok(())
}

fn write(families: &mut Families<'_>, mounts: &[Mount]) {
    fn labels([device, kind, place]: &[String; 3]) -> [(&str, &str); 3] {
        [("device", device), ("fstype", kind), ("mountpoint", place)]
    }
    type Of = fn(&FilesystemUsage) -> f64;
    let sizes: [(&str, &str, Of); 5] = [
        ("avail_bytes", "Filesystem space available to non-root users in bytes.", |u| {
            u.available_bytes
        }),
        ("files", "Filesystem total file nodes.", |u| u.files),
        ("files_free", "Filesystem total free file nodes.", |u| u.files_free),
        ("free_bytes", "Filesystem free space in bytes.", |u| u.free_bytes),
        ("size_bytes", "Filesystem size in bytes.", |u| u.size_bytes),
    ];
    for (name, help, of) in sizes {
        families.open(&format!("node_filesystem_{name}"), "gauge", help);
        for mount in mounts {
            if let Ok(usage) = &mount.usage {
                families.sample(&labels(&mount.labels), of(usage));
            }
        }
    }
    families.open("node_filesystem_readonly", "gauge", "Filesystem read-only status.");
    for mount in mounts {
        families.sample(&labels(&mount.labels), f64::from(u8::from(mount.is_read_only)));
    }
    let help = "Whether an error occurred while getting statistics for the given device.";
    families.open("node_filesystem_device_error", "gauge", help);
    for mount in mounts {
        families.sample(&labels(&mount.labels), f64::from(u8::from(mount.usage.is_err())));
    }
}

fn is_left_out(kind: &str, place: &str) -> bool {
    let within = |root: &&str| {
        place.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    KINDS_LEFT_OUT.contains(&kind)
        || PLACES_LEFT_OUT.iter().any(within)
        || BELOW_LEFT_OUT.iter().any(|root| place.starts_with(root))
}

/// Kinds that ask another machine or a process.
fn is_remote(kind: &str) -> bool {
    let kinds = [
        "nfs", "cifs", "smb", "fuse", "ceph", "9p", "afs", "lustre", "gluster", "beegfs",
        "virtiofs",
    ];
    kinds.iter().any(|k| kind.starts_with(k))
}

/// Blanks, tabs, line feeds and backslashes are octal in the mount table.
fn unescaped(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
