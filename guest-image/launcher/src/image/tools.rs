//! Test tools of the guest: programs from Debian packages with their shared libraries.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::archive::Archive;
use super::elf;
use crate::architecture::Architecture;
use crate::error::{Error, at};

/// Packages of the programs.
pub(super) const PACKAGES: [&str; 6] = [
    "iproute2",
    "ipvsadm",
    "conntrack",
    "ethtool",
    "iputils-ping",
    "busybox",
];

const PROGRAMS: [&str; 7] = [
    "ip",
    "ss",
    "ipvsadm",
    "conntrack",
    "ethtool",
    "ping",
    "busybox",
];

/// Busybox commands that get a link, unless one of the programs has the name.
const APPLETS: &str = "\
    [ arp arping ash awk base64 basename bc brctl cat chgrp chmod chown chroot clear cmp cp \
    cut date dd df diff dirname dmesg du echo egrep env expr false fgrep find fold free grep \
    gunzip gzip head hexdump hostname id ifconfig insmod kill killall less ln logger ls \
    lsmod md5sum mkdir mkfifo mknod mktemp modinfo modprobe more mount mv nc netstat nproc \
    nsenter nslookup od paste pidof ping6 printf ps pwd readlink realpath renice rev rm \
    rmdir rmmod route sed seq setsid sh sha1sum sha256sum sha512sum shuf sleep sort stat \
    strings stty sync sysctl tac tail tar taskset tee telnet test time timeout top touch tr \
    traceroute true truncate tty udhcpc umount uname uniq unshare uptime usleep vi watch wc \
    wget which whoami xargs xxd yes zcat";

const PROGRAM_FOLDERS: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];

/// Adds the programs from a tree of unpacked packages, their libraries, and links to busybox.
pub(super) fn add_programs(
    archive: &mut Archive,
    tree: &Path,
    architecture: Architecture,
) -> Result<(), Error> {
    let mut wanted = BTreeSet::new();
    for program in PROGRAMS {
        let content = find(tree, &PROGRAM_FOLDERS, program)?;
        let needs = elf::needs_of(Path::new(program), &content)?;
        wanted.extend(needs.libraries);
        if let Some(loader) = needs.loader {
            archive.program(&loader, read_in_tree(tree, Path::new(&loader))?);
        }
        archive.program(&format!("/bin/{program}"), content);
    }
    add_libraries(archive, tree, wanted, architecture.library_folder())?;
    for applet in APPLETS.split_whitespace() {
        archive.link_if_free(&format!("/bin/{applet}"), "busybox");
    }
    Ok(())
}

fn add_libraries(
    archive: &mut Archive,
    tree: &Path,
    mut wanted: BTreeSet<String>,
    name: &str,
) -> Result<(), Error> {
    let folders = [format!("lib/{name}"), format!("usr/lib/{name}")];
    let folders = folders.each_ref().map(String::as_str);
    let mut added = BTreeSet::new();
    while let Some(library) = wanted.pop_first() {
        if !added.insert(library.clone()) {
            continue;
        }
        let content = find(tree, &folders, &library)?;
        wanted.extend(elf::needs_of(Path::new(&library), &content)?.libraries);
        // In the default search path of Debian's loader.
        archive.program(&format!("/lib/{name}/{library}"), content);
    }
    Ok(())
}

fn find(tree: &Path, folders: &[&str], name: &str) -> Result<Vec<u8>, Error> {
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| tree.join(path).symlink_metadata().is_ok());
    let path = found.ok_or_else(|| Error::MissingTool(name.to_owned()))?;
    read_in_tree(tree, &path)
}

/// Reads a file of the tree. Absolute targets of links are relative to the tree.
fn read_in_tree(tree: &Path, path: &Path) -> Result<Vec<u8>, Error> {
    let inside = tree.join(path.strip_prefix("/").unwrap_or(path));
    match fs::read_link(&inside) {
        Ok(target) if target.is_absolute() => read_in_tree(tree, &target),
        _ => fs::read(&inside).map_err(at(&inside)),
    }
}
