//! Writing cpio archives (`newc`) that come out the same for the same content.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cpio::newc::{Builder, ModeFileType, trailer};

#[derive(Debug, Clone)]
enum Node {
    Directory,
    File { mode: u32, content: Vec<u8> },
    Symlink { target: String },
}

/// An archive in the making: entries by path, without leading slash.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

/// The name that ends an archive: what comes behind it is not unpacked.
const TRAILER: &str = "TRAILER!!!";

/// Archives that the kernel unpacks one after the other begin at a multiple of this.
const ALIGNMENT: usize = 4;

impl Archive {
    /// Adds an empty directory and the ones above it.
    pub fn directory(&mut self, path: &str) {
        self.parents(path);
        self.nodes.insert(relative(path), Node::Directory);
    }

    /// Adds a program.
    pub fn program(&mut self, path: &str, content: Vec<u8>) {
        self.node(
            path,
            Node::File {
                mode: 0o755,
                content,
            },
        );
    }

    /// Adds a file that isn't a program.
    pub fn file(&mut self, path: &str, content: Vec<u8>) {
        self.node(
            path,
            Node::File {
                mode: 0o644,
                content,
            },
        );
    }

    /// Adds a symbolic link, unless the path is taken.
    pub fn link_if_free(&mut self, path: &str, target: &str) {
        if !self.nodes.contains_key(&relative(path)) {
            let target = target.to_owned();
            self.node(path, Node::Symlink { target });
        }
    }

    /// The bytes of the archive, padded so that another one may follow.
    ///
    /// # Errors
    /// A path that an archive can't hold: one with NUL, and the name of its own end.
    pub fn encode(&self) -> io::Result<Vec<u8>> {
        let cannot_hold = |path: &&String| path.contains('\0') || *path == TRAILER;
        if let Some(path) = self.nodes.keys().find(cannot_hold) {
            let sentence = format!("an archive can't hold {path:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
        }
        let mut bytes = Vec::new();
        for (inode, (path, node)) in (1..).zip(&self.nodes) {
            bytes = append(bytes, inode, path, node)?;
        }
        bytes = trailer(bytes)?;
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(bytes)
    }

    /// The same tree in a folder; what is there already is replaced, or kept if it is a directory.
    pub fn unpack(&self, folder: &Path) -> io::Result<()> {
        for (path, node) in &self.nodes {
            let path = folder.join(path);
            match node {
                Node::Directory => fs::create_dir_all(&path)?,
                Node::File { mode, content } => {
                    remove_if_there(&path)?;
                    fs::write(&path, content)?;
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
                }
                Node::Symlink { target } => {
                    remove_if_there(&path)?;
                    symlink(target, &path)?;
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, path: &str, node: Node) {
        self.parents(path);
        self.nodes.insert(relative(path), node);
    }

    fn parents(&mut self, path: &str) {
        let path = relative(path);
        for (end, _) in path.match_indices('/') {
            self.nodes
                .entry(path[..end].to_owned())
                .or_insert(Node::Directory);
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
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
    fn entries_are_sorted_and_follow_their_directories() {
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
    fn the_tree_is_what_the_archive_holds() {
        let mut archive = Archive::default();
        archive.program("/usr/bin/a", b"a".to_vec());
        archive.link_if_free("/usr/lib/wants/a", "../a");
        let folder = tempfile::tempdir().unwrap();
        // Twice: the second time everything is there.
        for _ in 0..2 {
            archive.unpack(folder.path()).unwrap();
            let program = folder.path().join("usr/bin/a");
            assert_eq!(fs::read(&program).unwrap(), b"a");
            let mode = program.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o755);
            let link = fs::read_link(folder.path().join("usr/lib/wants/a")).unwrap();
            assert_eq!(link, Path::new("../a"));
        }
    }

    #[test]
    fn a_path_that_would_end_the_archive_is_refused() {
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
    fn link_does_not_replace_a_program() {
        let mut archive = Archive::default();
        archive.program("/bin/ip", b"real".to_vec());
        let before = archive.encode().unwrap();
        archive.link_if_free("/bin/ip", "busybox");
        assert_eq!(archive.encode().unwrap(), before);
    }
}
