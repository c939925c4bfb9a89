//! Installation of this program on a node, for an image that has nothing else.
//!
//! Multus runs plugins after a change of its root directory, so they are copies, not symbolic links.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use patchbay_host::private;
use patchbay_types::failure::{Failure, Kind};

use crate::args::InstallArgs;
use crate::{cni, qemu_wrapper};

/// This program.
const OWN: &str = "/proc/self/exe";
/// File name of the command for people.
const COMMAND: &str = "patchbay";
/// Folder of drop-in files beside a configuration of Kata, and the file in it. Prefixes from 50 are
/// for settings that Kata's installation doesn't manage.
const DROP_INS: &str = "config.d";
const DROP_IN: &str = "60-patchbay.toml";

/// Copies this program to its places, then names the wrapper in Kata's configuration.
pub(crate) fn install(args: &InstallArgs) -> Result<(), Failure> {
    for folder in &args.kata_config {
        check_kata_config(folder)?;
    }
    copy(&args.dir.join(cni::NAME))?;
    if let Some(folder) = &args.wrapper_dir {
        copy(&folder.join(COMMAND))?;
        let wrapper = folder.join(qemu_wrapper::NAME);
        copy(&wrapper)?;
        for folder in &args.kata_config {
            let path = toml_string(&wrapper)?;
            let text = format!("[hypervisor.qemu]\npath = {path}\n");
            let file = folder.join(DROP_INS).join(DROP_IN);
            replace(&file, 0o644, |new| fs::write(new, &text))?;
        }
    }
    Ok(())
}

/// Removes the files of [`install`]. New pods start without the wrapper before it is gone.
pub(crate) fn uninstall(args: &InstallArgs) -> Result<(), Failure> {
    let drop_ins = args.kata_config.iter();
    let drop_ins = drop_ins.map(|folder| folder.join(DROP_INS).join(DROP_IN));
    let wrappers = args.wrapper_dir.iter();
    let wrappers =
        wrappers.flat_map(|folder| [qemu_wrapper::NAME, COMMAND].map(|name| folder.join(name)));
    for file in drop_ins.chain(wrappers).chain([args.dir.join(cni::NAME)]) {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let message = format!("could not remove {}", file.display());
                return Err(Failure::of_io(message, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Waits, as the process of a container has to; a signal ends the process.
pub(crate) fn wait() -> ! {
    loop {
        thread::park();
    }
}

fn copy(to: &Path) -> Result<(), Failure> {
    replace(to, 0o755, |new| fs::copy(OWN, new).map(drop))
}

/// Writes a file under another name and renames it: a program that runs can't be overwritten, and a
/// runtime must not see a part of one.
fn replace(path: &Path, mode: u32, write: impl Fn(&Path) -> io::Result<()>) -> Result<(), Failure> {
    let replaced = || -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        private::create_folder(folder, private::LISTED)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let new = folder.join(format!(".{name}.new"));
        write(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(mode))?;
        File::open(&new)?.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    replaced()
        .map_err(|error| Failure::of_io(format!("could not write {}", path.display()), &error))
}

/// Checks that a drop-in changes only one QEMU: it applies to every configuration in the folder.
fn check_kata_config(folder: &Path) -> Result<(), Failure> {
    let configurations = || -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        let files = entries.into_iter().map(|entry| entry.path());
        Ok(files
            .filter(|file| file.extension().is_some_and(|end| end == "toml"))
            .collect())
    };
    let unreadable = |path: &Path| {
        let message = format!("could not read {}", path.display());
        move |error: io::Error| Failure::of_io(message, &error).with_field("kata-config")
    };
    let mut paths = Vec::new();
    for file in configurations().map_err(unreadable(folder))? {
        let text = fs::read_to_string(&file).map_err(unreadable(&file))?;
        paths.extend(qemu_path(&text));
    }
    paths.sort();
    paths.dedup();
    let message = match &paths[..] {
        [_] => return Ok(()),
        [] => format!(
            "{} has no configuration with hypervisor.qemu",
            folder.display()
        ),
        several => format!(
            "{} has configurations with several QEMUs, which one drop-in would replace: {}",
            folder.display(),
            several.join(", ")
        ),
    };
    Err(Failure::new(Kind::Invalid, message).with_field("kata-config"))
}

/// Returns `path` of the section `hypervisor.qemu`.
fn qemu_path(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let section = lines
        .skip_while(|line| *line != "[hypervisor.qemu]")
        .skip(1);
    let mut section = section.take_while(|line| !line.starts_with('['));
    section.find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "path").then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Returns a basic string of TOML.
fn toml_string(path: &Path) -> Result<String, Failure> {
    let text = path
        .to_str()
        .filter(|text| !text.contains(['"', '\\']) && !text.contains(char::is_control));
    text.map(|text| format!("\"{text}\"")).ok_or_else(|| {
        let message = format!(
            "{} can't be written to Kata's configuration",
            path.display()
        );
        Failure::new(Kind::Invalid, message).with_field("wrapper-dir")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const CONFIGURATION: &str = "[agent.kata]\npath = \"/agent\"\n[hypervisor.qemu]\n# path = \"/old\"\n\
                                 path = \"/opt/kata/bin/qemu-system-x86_64\"\n[runtime]\npath = \"/x\"\n";

    /// Returns a host with a configuration of Kata, and the arguments for it.
    fn host() -> (tempfile::TempDir, InstallArgs) {
        let dir = tempfile::tempdir().unwrap();
        let kata = dir.path().join("kata");
        fs::create_dir(&kata).unwrap();
        fs::write(kata.join("configuration-qemu.toml"), CONFIGURATION).unwrap();
        fs::write(
            kata.join("configuration-clh.toml"),
            "[hypervisor.clh]\npath = \"/clh\"\n",
        )
        .unwrap();
        let args = InstallArgs {
            dir: dir.path().join("cni"),
            wrapper_dir: Some(dir.path().join("bin")),
            kata_config: vec![kata],
        };
        (dir, args)
    }

    #[test]
    fn install_is_undone_by_uninstall() {
        let (dir, args) = host();
        for _ in 0..2 {
            install(&args).unwrap();
        }
        let own = fs::metadata(OWN).unwrap();
        for name in ["cni/patchbay-cni", "bin/patchbay", "bin/patchbay-qemu"] {
            let copy = fs::symlink_metadata(dir.path().join(name)).unwrap();
            assert_eq!((copy.len(), copy.mode()), (own.len(), 0o100_755), "{name}");
        }
        let drop_in = dir.path().join("kata/config.d/60-patchbay.toml");
        let wrapper = dir.path().join("bin/patchbay-qemu");
        assert_eq!(
            fs::read_to_string(&drop_in).unwrap(),
            format!("[hypervisor.qemu]\npath = \"{}\"\n", wrapper.display())
        );
        for _ in 0..2 {
            uninstall(&args).unwrap();
        }
        for folder in ["cni", "bin", "kata/config.d"] {
            assert_eq!(
                fs::read_dir(dir.path().join(folder)).unwrap().count(),
                0,
                "{folder}"
            );
        }
    }

    #[test]
    fn install_refuses_unsuitable_kata_config_before_a_change() {
        let (dir, args) = host();
        let kata = &args.kata_config[0];
        let refused = || {
            let failure = install(&args).unwrap_err();
            assert!(!dir.path().join("cni").exists());
            assert_eq!(failure.field(), Some("kata-config"));
            failure.line()
        };
        let other = CONFIGURATION.replace("x86_64", "x86_64-snp");
        fs::write(kata.join("configuration-qemu-snp.toml"), other).unwrap();
        let message = "/opt/kata/bin/qemu-system-x86_64, /opt/kata/bin/qemu-system-x86_64-snp";
        assert!(refused().ends_with(message), "{}", refused());
        for name in ["configuration-qemu-snp.toml", "configuration-qemu.toml"] {
            fs::remove_file(kata.join(name)).unwrap();
        }
        assert!(refused().ends_with("has no configuration with hypervisor.qemu"));
        fs::remove_dir_all(kata).unwrap();
        assert!(refused().starts_with(&format!("could not read {}", kata.display())));
    }
}
