//! Kernel module loader for guests without `modprobe`: `modules.dep` and `finit_module`, in this process or in
//! one that has the right to load modules and nothing else.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::utsname::uname;

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel decompresses the file (Linux 5.17 and later).
const COMPRESSED: u32 = 4;
/// Maximum size of `modules.dep`; distributions ship 400 KiB.
const MAX_INDEX_BYTES: u64 = 4 << 20;

/// Modules that requests need: conntrack, IPVS, its schedulers and its persistence engine. Those of other
/// names can be built in, or be loaded by the kernel or the guest.
const ON_DEMAND: [&str; 18] = [
    "nf_conntrack",
    "nf_conntrack_netlink",
    "ip_vs",
    "ip_vs_dh",
    "ip_vs_fo",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_lc",
    "ip_vs_mh",
    "ip_vs_nq",
    "ip_vs_ovf",
    "ip_vs_pe_sip",
    "ip_vs_rr",
    "ip_vs_sed",
    "ip_vs_sh",
    "ip_vs_twos",
    "ip_vs_wlc",
    "ip_vs_wrr",
];
/// Timeout for the other process; a module can wait for hardware.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Size of a reply: the index of the request, and an errno, 0 for success.
const REPLY: usize = 5;
/// Index of the message that another process has taken over, in which the errno has no meaning.
const SUCCESSOR: u8 = u8::MAX;

/// Failure to load a kernel module.
#[derive(Debug, thiserror::Error)]
#[error("could not load the kernel module {name}")]
pub struct Error {
    name: String,
    source: io::Error,
}

/// Module directory of the running kernel.
#[derive(Debug)]
pub struct Modules(PathBuf);

impl Default for Modules {
    /// Uses `/lib/modules/RELEASE`.
    fn default() -> Self {
        let release = uname().map(|name| name.release().to_owned());
        Self(Path::new("/lib/modules").join(release.unwrap_or_default()))
    }
}

impl Modules {
    /// Returns the directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Loads a module and its dependencies. Does nothing if the module is loaded already or isn't in
    /// `modules.dep`: it can be built in.
    pub fn load(&self, name: &str) -> Result<(), Error> {
        if is_loaded(name) {
            return Ok(());
        }
        let load_all = || {
            let files = self.files(name)?;
            let mut files = files.iter();
            files.try_for_each(|file| load_file(&self.0.join(file)))
        };
        load_all().map_err(|source| Error {
            name: name.to_owned(),
            source,
        })
    }

    /// Returns the files of a module and its dependencies in load order.
    fn files(&self, name: &str) -> io::Result<Vec<String>> {
        let index = self.0.join("modules.dep");
        let length = match fs::metadata(&index) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if length > MAX_INDEX_BYTES {
            return Err(io::Error::other("modules.dep is too large"));
        }
        Ok(files_of(&fs::read_to_string(index)?, name).unwrap_or_default())
    }
}

/// Way to load the modules that requests need.
#[derive(Debug)]
pub enum Loader {
    /// In this process.
    Own(Modules),
    /// In the process at the other end, which runs [`serve`].
    Process(Mutex<UnixStream>),
}

impl Default for Loader {
    fn default() -> Self {
        Self::Own(Modules::default())
    }
}

impl Loader {
    /// Uses another process.
    ///
    /// # Errors
    /// The timeout can't be set.
    pub fn process(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(LOAD_TIMEOUT))?;
        Ok(Self::Process(Mutex::new(stream)))
    }

    /// Loads a module and its dependencies, as [`Modules::load`] does.
    pub(crate) fn load(&self, name: &str) -> Result<(), Error> {
        let stream = match self {
            Self::Own(modules) => return modules.load(name),
            Self::Process(_) if is_loaded(name) => return Ok(()),
            Self::Process(stream) => stream,
        };
        let index = ON_DEMAND.iter().position(|known| *known == name);
        let Some(index) = index.and_then(|index| u8::try_from(index).ok()) else {
            return Ok(());
        };
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&stream, index).map_err(|source| Error {
            name: name.to_owned(),
            source,
        })
    }
}

/// Sends the index of a module and waits for its result.
fn ask(mut stream: &UnixStream, index: u8) -> io::Result<()> {
    stream.write_all(&[index])?;
    let mut repeated = false;
    loop {
        let mut reply = [0; REPLY];
        stream.read_exact(&mut reply)?;
        let [of, errno @ ..] = reply;
        match i32::from_ne_bytes(errno) {
            // The request can have ended with the process. Loading a module twice is harmless.
            _ if of == SUCCESSOR && !repeated => {
                repeated = true;
                stream.write_all(&[index])?;
            }
            // The late reply to a request that has timed out.
            _ if of != index => {}
            0 => return Ok(()),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Announces to [`Loader::Process`] that another process [serves](serve) instead of one that was killed.
///
/// # Errors
/// The socket fails.
pub fn announce_successor(mut stream: &UnixStream) -> io::Result<()> {
    let mut reply = [0; REPLY];
    reply[0] = SUCCESSOR;
    stream.write_all(&reply)
}

/// Loads modules for [`Loader::Process`] until the other end is closed. An index out of range is an error,
/// since only an attacker sends it.
///
/// # Errors
/// The socket fails.
pub fn serve(mut stream: &UnixStream, modules: &Modules) -> io::Result<()> {
    let mut index = [0];
    while stream.read(&mut index)? > 0 {
        let name = ON_DEMAND.get(usize::from(index[0]));
        let name = name.ok_or(io::ErrorKind::InvalidData)?;
        let errno = match modules.load(name) {
            Ok(()) => 0,
            Err(error) => error.source.raw_os_error().unwrap_or(libc::EIO),
        };
        let [a, b, c, d] = errno.to_ne_bytes();
        stream.write_all(&[index[0], a, b, c, d])?;
    }
    Ok(())
}

fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(underscores(name)).exists()
}

/// Normalizes a module's name, as `/sys/module` does.
fn underscores(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns the file of a module after those of its dependencies, in the order of loading. `index` is
/// `modules.dep`, with rows `file: dependency dependency`, the most basic one last.
#[must_use]
pub fn files_of(index: &str, name: &str) -> Option<Vec<String>> {
    let wanted = underscores(name);
    let row = index.lines().find_map(|row| {
        let (file, needs) = row.split_once(':')?;
        let base = file.rsplit('/').next()?.split(".ko").next()?;
        (underscores(base) == wanted).then_some((file, needs))
    });
    let (file, needs) = row?;
    let needs = needs.split_whitespace().rev();
    Some(needs.chain([file]).map(str::to_owned).collect())
}

/// Loads a module from a file; the kernel decompresses it unless its name ends in `.ko`. A module
/// that is loaded already is not an error.
fn load_file(path: &Path) -> io::Result<()> {
    let plain = path.extension().is_some_and(|extension| extension == "ko");
    let flags = ModuleInitFlags::from_bits_retain(if plain { 0 } else { COMPRESSED });
    match finit_module(File::open(path)?, c"", flags) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "kernel/lib/libcrc32c.ko:\n\
        kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/nf_conntrack.ko kernel/lib/libcrc32c.ko\n\
        kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz: kernel/net/netfilter/ipvs/ip_vs.ko \
        kernel/net/nf_conntrack.ko kernel/lib/libcrc32c.ko\n";

    #[test]
    fn module_files_list_dependencies_first() {
        assert_eq!(
            files_of(INDEX, "ip-vs-rr").unwrap(),
            [
                "kernel/lib/libcrc32c.ko",
                "kernel/net/nf_conntrack.ko",
                "kernel/net/netfilter/ipvs/ip_vs.ko",
                "kernel/net/netfilter/ipvs/ip_vs_rr.ko.xz",
            ]
        );
        assert_eq!(files_of(INDEX, "libcrc32c").unwrap().len(), 1);
    }

    #[test]
    fn module_name_matches_neither_path_nor_prefix() {
        for name in ["ip_vs_r", "../lib/libcrc32c", "kernel/lib/libcrc32c", ""] {
            assert_eq!(files_of(INDEX, name), None, "{name}");
        }
    }

    /// A module that no test host has loaded.
    const RARE: &str = "ip_vs_ovf";

    fn index_of(name: &str) -> u8 {
        let index = ON_DEMAND.iter().position(|known| *known == name);
        index.unwrap().try_into().unwrap()
    }

    #[test]
    fn load_by_process_ignores_late_reply() {
        let (own, other) = UnixStream::pair().unwrap();
        let loader = Loader::process(own).unwrap();
        let index = index_of(RARE);
        (&other).write_all(&[index + 1, 1, 0, 0, 0]).unwrap();
        let refused = libc::EPERM.to_ne_bytes();
        (&other)
            .write_all(&[&[index][..], &refused].concat())
            .unwrap();
        let error = loader.load(RARE).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(libc::EPERM));
        let mut sent = [0; 2];
        assert_eq!((&other).read(&mut sent).unwrap(), 1);
        assert_eq!(sent[0], index);
    }

    #[test]
    fn load_by_process_that_was_replaced_is_repeated_once() {
        let (own, other) = UnixStream::pair().unwrap();
        let loader = Loader::process(own).unwrap();
        let index = index_of(RARE);
        announce_successor(&other).unwrap();
        announce_successor(&other).unwrap();
        (&other).write_all(&[index, 0, 0, 0, 0]).unwrap();
        loader.load(RARE).unwrap();
        drop(loader);
        let mut sent = Vec::new();
        (&other).read_to_end(&mut sent).unwrap();
        assert_eq!(sent, [index, index]);
    }

    #[test]
    fn load_by_process_of_unlisted_module_sends_nothing() {
        let (own, other) = UnixStream::pair().unwrap();
        Loader::process(own).unwrap().load("vfat").unwrap();
        // The other end is closed, so that this returns.
        assert_eq!((&other).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn serve_replies_to_indexes_only() {
        let (own, other) = UnixStream::pair().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let modules = Modules(dir.path().to_owned());
        // There is no `modules.dep`: the module can be built in.
        (&own)
            .write_all(&[index_of(RARE), u8::try_from(ON_DEMAND.len()).unwrap()])
            .unwrap();
        let error = serve(&other, &modules).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(other);
        let mut replies = Vec::new();
        (&own).read_to_end(&mut replies).unwrap();
        assert_eq!(replies, [index_of(RARE), 0, 0, 0, 0]);
    }
}
