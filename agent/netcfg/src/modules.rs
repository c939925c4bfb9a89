//! Loading kernel modules in a guest that has no `modprobe`: `modules.dep` and `finit_module`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::utsname::uname;

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks it (since 5.17).
const COMPRESSED: u32 = 4;
/// Largest `modules.dep` that is read, in bytes; distributions have 400 KiB.
const MAX_INDEX: u64 = 4 << 20;

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("could not load the kernel module {name}")]
pub struct Error {
    name: String,
    source: io::Error,
}

/// Whether a module is there to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is loaded, now or already.
    Loaded,
    /// The folder has none of this name: it may be built in, or missing.
    Unknown,
}

/// The module folder of the running kernel.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
}

impl Modules {
    /// `/lib/modules` of the kernel that runs.
    #[must_use]
    pub fn of_this_kernel() -> Self {
        let release = uname().map(|name| name.release().to_owned());
        Self {
            folder: Path::new("/lib/modules").join(release.unwrap_or_default()),
        }
    }

    /// Loads a module with what it depends on.
    pub fn load(&self, name: &str) -> Result<Found, Error> {
        if Path::new("/sys/module").join(underscores(name)).exists() {
            return Ok(Found::Loaded);
        }
        let failed = |source| Error {
            name: name.to_owned(),
            source,
        };
        let Some(files) = self.files(name).map_err(failed)? else {
            return Ok(Found::Unknown);
        };
        for file in files {
            insert(&self.folder.join(file)).map_err(failed)?;
        }
        Ok(Found::Loaded)
    }

    /// The module's file and those that it needs, in the order in which they must be loaded.
    fn files(&self, name: &str) -> io::Result<Option<Vec<String>>> {
        let index = self.folder.join("modules.dep");
        let length = match fs::metadata(&index) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > MAX_INDEX {
            return Err(io::Error::other("modules.dep is too large"));
        }
        Ok(files_of(&fs::read_to_string(index)?, name))
    }
}

/// Modules are found under either spelling, and loaded ones shown under this.
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

fn insert(path: &Path) -> io::Result<()> {
    let plain = path.extension().is_some_and(|extension| extension == "ko");
    let flags = if plain { 0 } else { COMPRESSED };
    let flags = ModuleInitFlags::from_bits_retain(flags);
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
    fn dependencies_come_first() {
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
    fn a_name_is_no_path_and_no_prefix() {
        for name in ["ip_vs_r", "../lib/libcrc32c", "kernel/lib/libcrc32c", ""] {
            assert_eq!(files_of(INDEX, name), None, "{name}");
        }
    }
}
