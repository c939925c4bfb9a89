//! Reproducible cpio archives in the `newc` format.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cpio::newc::{Builder, ModeFileType, trailer};

enum Node {
    Directory,
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
}

/// Archive under construction: entries by path, without a leading slash.
#[derive(Default)]
pub(crate) struct Archive {
    nodes: BTreeMap<String, Node>,
}

/// Name of the entry that ends an archive; the kernel ignores the rest.
const TRAILER: &str = "TRAILER!!!";

/// Alignment, in bytes, of concatenated archives.
const ALIGNMENT: usize = 4;

impl Archive {
    /// Adds an empty directory and its parents.
    pub(crate) fn directory(&mut self, path: &str) {
        self.node(path, Node::Directory);
    }

    /// Adds an executable file.
    pub(crate) fn program(&mut self, path: &str, content: Vec<u8>) {
        let mode = 0o755;
        self.node(path, Node::File { mode, content });
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, content: Vec<u8>) {
        let mode = 0o644;
        self.node(path, Node::File { mode, content });
    }

    /// Adds a symbolic link, unless the path exists.
    pub(crate) fn link_if_free(&mut self, path: &str, target: &str) {
        if !self.nodes.contains_key(&relative(path)) {
            let target = target.to_owned();
            self.node(path, Node::Symlink { target });
        }
    }

    /// Encodes the archive, padded so that another one can follow.
    ///
    /// # Errors
    /// A path contains NUL or is the name of the end entry.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let invalid = |path: &&String| path.contains('\0') || *path == TRAILER;
        if let Some(path) = self.nodes.keys().find(invalid) {
            let message = format!("the cpio format can't represent the path {path:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut bytes = Vec::new();
        for (inode, (path, node)) in (1..).zip(&self.nodes) {
            bytes = append(bytes, inode, path, node)?;
        }
        bytes = trailer(bytes)?;
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(bytes)
    }

    /// Writes the tree into a folder, replacing files and keeping directories.
    pub(crate) fn unpack(&self, folder: &Path) -> io::Result<()> {
        for (path, node) in &self.nodes {
            let path = folder.join(path);
            match node {
                Node::Directory => create_folder(&path)?,
                Node::File { mode, content } => {
                    remove_if_present(&path)?;
                    fs::write(&path, content)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                }
                Node::Symlink { target } => {
                    remove_if_present(&path)?;
                    symlink(target, &path)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a node and the directories above it.
    fn node(&mut self, path: &str, node: Node) {
        let path = relative(path);
        for (end, _) in path.match_indices('/') {
            let parent = self.nodes.entry(path[..end].to_owned());
            parent.or_insert(Node::Directory);
        }
        self.nodes.insert(path, node);
    }
}

/// Creates a folder that everybody can enter, whatever the umask. Keeps one that exists.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn relative(path: &str) -> String {
    path.trim_matches('/').to_owned()
}

fn append(bytes: Vec<u8>, inode: u32, path: &str, node: &Node) -> io::Result<Vec<u8>> {
    let (kind, mode, content): (_, _, &[u8]) = match node {
        Node::Directory => (ModeFileType::Directory, 0o755, &[]),
        Node::File { mode, content } => (ModeFileType::Regular, *mode, content),
        Node::Symlink { target } => (ModeFileType::Symlink, 0o777, target.as_bytes()),
    };
    let builder = Builder::new(path)
        .ino(inode)
        .nlink(1)
        .mtime(0)
        .mode(mode)
        .set_mode_file_type(kind);
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    let mut writer = builder.write(bytes, length);
    io::Write::write_all(&mut writer, content)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(mut bytes: &[u8]) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            let reader = cpio::newc::Reader::new(bytes).unwrap();
            if reader.entry().is_trailer() {
                return names;
            }
            names.push(reader.entry().name().to_owned());
            bytes = reader.finish().unwrap();
        }
    }

    #[test]
    fn encode_sorts_entries_after_their_directories() {
        let mut archive = Archive::default();
        archive.program("/init", b"i".to_vec());
        archive.file("/lib/modules/boot.list", b"x".to_vec());
        archive.directory("/dev");
        let bytes = archive.encode().unwrap();
        let expected = ["dev", "init", "lib", "lib/modules", "lib/modules/boot.list"];
        assert_eq!(names(&bytes), expected);
        assert_eq!(bytes.len() % ALIGNMENT, 0);
    }

    #[test]
    fn unpack_twice_writes_the_tree() {
        let mut archive = Archive::default();
        archive.program("/usr/bin/a", b"a".to_vec());
        archive.link_if_free("/usr/lib/wants/a", "../a");
        let folder = tempfile::tempdir().unwrap();
        // Of this process alone, as each test has one.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        // The second pass replaces existing entries.
        for _ in 0..2 {
            archive.unpack(folder.path()).unwrap();
            let program = folder.path().join("usr/bin/a");
            assert_eq!(fs::read(&program).unwrap(), b"a");
            let mode = program.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
            let mode = folder.path().join("usr/bin").metadata().unwrap();
            assert_eq!(mode.permissions().mode() & 0o777, 0o755);
            let link = fs::read_link(folder.path().join("usr/lib/wants/a")).unwrap();
            assert_eq!(link, Path::new("../a"));
        }
    }

    #[test]
    fn encode_rejects_nul_and_trailer_paths() {
        for path in ["/TRAILER!!!", "/TRAILER!!!/a", "/a\0b"] {
            let mut archive = Archive::default();
            archive.program(path, b"a".to_vec());
            let error = archive.encode().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
        let mut archive = Archive::default();
        archive.program("/bin/TRAILER!!!", b"a".to_vec());
        assert_eq!(names(&archive.encode().unwrap()).len(), 2);
    }

    #[test]
    fn link_if_free_keeps_existing_program() {
        let mut archive = Archive::default();
        archive.program("/bin/ip", b"real".to_vec());
        let before = archive.encode().unwrap();
        archive.link_if_free("/bin/ip", "busybox");
        assert_eq!(archive.encode().unwrap(), before);
    }
}
