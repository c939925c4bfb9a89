//! Kernel module loader for guests without `modprobe`: `modules.dep` and `finit_module`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::sys::utsname::uname;

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel decompresses the file (Linux 5.17 and later).
const COMPRESSED: u32 = 4;
/// Maximum size of `modules.dep`; distributions ship 400 KiB.
const MAX_INDEX_BYTES: u64 = 4 << 20;

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
    /// Loads a module and its dependencies. Does nothing if the module is loaded already or isn't in
    /// `modules.dep`: it can be built in.
    pub fn load(&self, name: &str) -> Result<(), Error> {
        if Path::new("/sys/module").join(underscores(name)).exists() {
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
}
