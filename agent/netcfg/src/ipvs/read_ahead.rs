//! Reads a file in a thread while the caller parses the earlier blocks.
//!
//! The kernel takes longer to write a large table to `/proc` than a caller to parse it.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Size of a block. The kernel returns at most a page for each read.
const BLOCK_BYTES: usize = 32 * 1024;
/// Maximum number of blocks that wait for the caller.
const MAX_WAITING: usize = 4;

/// Reader of the blocks.
#[derive(Debug)]
pub struct ReadAhead {
    blocks: Receiver<io::Result<Vec<u8>>>,
    block: Vec<u8>,
    /// Number of bytes of the block that the caller has taken.
    taken: usize,
}

impl ReadAhead {
    /// Starts to read. The thread ends with the file, with the first error, or when the reader is dropped.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn new(file: File) -> io::Result<Self> {
        let (sender, blocks) = sync_channel(MAX_WAITING);
        thread::Builder::new().spawn(move || send_blocks(file, &sender))?;
        Ok(Self {
            blocks,
            block: Vec::new(),
            taken: 0,
        })
    }
}

fn send_blocks(mut file: File, sender: &SyncSender<io::Result<Vec<u8>>>) {
    let limit = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
    loop {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        let read = file.by_ref().take(limit).read_to_end(&mut block);
        let is_last = !matches!(read, Ok(1..));
        // The receiver has gone if that fails.
        if sender.send(read.map(|_| block)).is_err() || is_last {
            return;
        }
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.block.len() {
            // The thread has ended after the last block.
            self.block = self.blocks.recv().unwrap_or_else(|_| Ok(Vec::new()))?;
            self.taken = 0;
        }
        Ok(&self.block[self.taken..])
    }

    fn consume(&mut self, length: usize) {
        self.taken = self.block.len().min(self.taken + length);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn read_ahead_returns_the_file() {
        for length in [0, 1, BLOCK_BYTES, 9 * BLOCK_BYTES + 7] {
            let content: Vec<u8> = (0..=250).cycle().take(length).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            file.rewind().unwrap();
            let mut read = Vec::new();
            let mut reader = ReadAhead::new(file).unwrap();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == content, "{length}");
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn read_ahead_of_a_folder_fails() {
        let mut reader = ReadAhead::new(File::open("/").unwrap()).unwrap();
        assert_eq!(
            reader.fill_buf().unwrap_err().kind(),
            io::ErrorKind::IsADirectory
        );
    }
}
