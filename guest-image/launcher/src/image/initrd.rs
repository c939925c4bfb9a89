//! What goes into the two archives that the kernel unpacks as its first file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use patchbay_init::{
    AGENT_PATH, BASELINE_PATH, BOOT_LIST_PATH, ECHO_PATH, EXECD_PATH, HAMMER_PATH,
};

use super::archive::Archive;
use super::build::{KernelFiles, ToolsFrom};
use super::modules::{self, ModuleIndex, loading_order};
use super::{ImageError, at, elf, tools};

pub(super) const BASE: &str = "initrd.cpio";
pub(super) const TOOLS: &str = "initrd-tools.cpio";
pub(super) const BASE_AND_TOOLS: &str = "initrd-with-tools.cpio";

const EMPTY_FOLDERS: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/tmp"];

struct Program {
    target: &'static str,
    content: Vec<u8>,
}

/// The static programs of the guest, read and checked.
pub(super) struct Programs {
    base: Vec<Program>,
    tools: Vec<Program>,
}

impl Programs {
    pub(super) fn read(folder: &Path, tools: &ToolsFrom) -> Result<Self, ImageError> {
        let base = [("patchbay-init", "/init"), ("patchbay-agent", AGENT_PATH)];
        let extra = match tools {
            ToolsFrom::Packages => vec![
                ("patchbay-execd", EXECD_PATH),
                ("patchbay-echo", ECHO_PATH),
                ("patchbay-hammer", HAMMER_PATH),
                ("patchbay-baseline", BASELINE_PATH),
            ],
            ToolsFrom::Nowhere | ToolsFrom::Image(_) => Vec::new(),
        };
        Ok(Self {
            base: read_programs(folder, base)?,
            tools: read_programs(folder, extra)?,
        })
    }
}

fn read_programs(
    folder: &Path,
    names: impl IntoIterator<Item = (&'static str, &'static str)>,
) -> Result<Vec<Program>, ImageError> {
    let read = |(name, target)| {
        let content = program(folder, name)?;
        Ok(Program { target, content })
    };
    names.into_iter().map(read).collect()
}

/// A program for a guest: it must need no library.
pub(super) fn program(folder: &Path, name: &str) -> Result<Vec<u8>, ImageError> {
    let path = folder.join(name);
    let content = fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::MissingProgram(path.clone()),
        _ => at(&path)(error),
    })?;
    elf::require_static(&path, &content)?;
    Ok(content)
}

/// The archive that every sandbox boots.
pub(super) fn base(programs: &Programs, kernel: &KernelFiles) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::default();
    for folder in EMPTY_FOLDERS {
        archive.directory(folder);
    }
    add(&mut archive, &programs.base);
    let root = kernel.modules();
    let index = ModuleIndex::scan(&root)?;
    let at_boot = index.files(&modules::BOOT);
    let boot = loading_order(at_boot.iter().copied(), |name| index.depends(name))?;
    let wanted = at_boot
        .into_iter()
        .chain(index.files(&modules::ON_DEMAND))
        .chain(index.ipvs_family());
    let all = loading_order(wanted, |name| index.depends(name))?;
    add_modules(&mut archive, &root, &index, &all)?;
    let list = boot
        .iter()
        .map(|name| Ok(guest_path(&root, index.path(name)?) + "\n"));
    let list: String = list.collect::<Result<_, ImageError>>()?;
    archive.file(BOOT_LIST_PATH, list.into_bytes());
    add_dependency_list(&mut archive, &root, &index, &all)?;
    archive.encode().map_err(at(Path::new(BASE)))
}

/// The archive that comes after the base in a sandbox with tools.
pub(super) fn extra_modules(kernel: &KernelFiles) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::default();
    let root = kernel.modules();
    let index = ModuleIndex::scan(&root)?;
    let wanted = index.files(&modules::WITH_TOOLS);
    add_modules(&mut archive, &root, &index, &wanted)?;
    archive.encode().map_err(at(Path::new(BASE_AND_TOOLS)))
}

/// The archive that comes after those. It is the same for every kernel.
pub(super) fn tools(programs: &Programs, tree: &Path) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::default();
    add(&mut archive, &programs.tools);
    tools::add_programs(&mut archive, tree)?;
    archive.encode().map_err(at(Path::new(TOOLS)))
}

fn add(archive: &mut Archive, programs: &[Program]) {
    for Program { target, content } in programs {
        archive.program(target, content.clone());
    }
}

fn add_modules(
    archive: &mut Archive,
    root: &Path,
    index: &ModuleIndex,
    names: &[impl AsRef<str>],
) -> Result<(), ImageError> {
    for name in names {
        let path = index.path(name.as_ref())?;
        let content = fs::read(path).map_err(at(path))?;
        archive.file(&guest_path(root, path), content);
    }
    Ok(())
}

/// Writes `modules.dep` in depmod's format: paths relative to it, every line with the whole closure
/// in the order that unloading would take.
fn add_dependency_list(
    archive: &mut Archive,
    root: &Path,
    index: &ModuleIndex,
    names: &[String],
) -> Result<(), ImageError> {
    let release = only_release(root)?;
    let relative = |name: &str| -> Result<String, ImageError> {
        let path = index.path(name)?;
        let path = path.strip_prefix(&release).unwrap_or(path);
        Ok(path.to_string_lossy().into_owned())
    };
    let mut text = String::new();
    for name in names {
        let mut needed = loading_order([name.as_str()], |name| index.depends(name))?;
        needed.pop();
        text.push_str(&relative(name)?);
        text.push(':');
        for name in needed.iter().rev() {
            text.push(' ');
            text.push_str(&relative(name)?);
        }
        text.push('\n');
    }
    let path = release.join("modules.dep");
    archive.file(&guest_path(root, &path), text.into_bytes());
    Ok(())
}

/// The one folder in `/lib/modules`, named like the kernel's release.
fn only_release(root: &Path) -> Result<PathBuf, ImageError> {
    let entries = fs::read_dir(root).map_err(at(root))?;
    let mut folders = entries.filter_map(Result::ok).map(|entry| entry.path());
    match (folders.next(), folders.next()) {
        (Some(release), None) => Ok(release),
        _ => Err(ImageError::NoKernel),
    }
}

fn guest_path(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    format!("/lib/modules/{}", inside.display())
}
