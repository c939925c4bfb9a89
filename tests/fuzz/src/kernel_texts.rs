//! Texts and C structures of the kernel and its packages.

use patchbay_codec::{TableRow, pack, unpack};
use patchbay_netcfg::fuzz;
use patchbay_wire::convert::ipvs::connections;
use patchbay_wire::proto::ipvs as wire;

use crate::packed::carried;
use crate::pick;

/// The first byte selects the text.
pub(crate) fn run(data: &[u8]) {
    let (kind, bytes) = pick(data);
    if kind == b'4' {
        let (service, server) = fuzz::old_entries(bytes);
        if let Some(id) = service {
            assert_eq!(unpack(&pack(&id)), Ok(id));
        }
        if let Some(listed) = server {
            carried(&TableRow::Server(listed));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match kind {
        b'0' => {
            if let Some(row) = fuzz::connection_row(text) {
                let chunk = wire::ConnectionsChunk {
                    connections: vec![(&row).into()],
                    ..wire::ConnectionsChunk::default()
                };
                assert!(connections(&chunk).is_ok_and(|read| read.len() == 1));
            }
        }
        b'1' => {
            let (name, index) = text.split_once('\n').unwrap_or(("ip_vs", text));
            if let Some(files) = fuzz::module_files(index, name) {
                assert!(!files.is_empty() && files.iter().all(|file| index.contains(file)));
            }
        }
        b'2' => {
            if let Some(path) = fuzz::device_path(text) {
                assert!(!path.steps().is_empty());
            }
        }
        b'3' => drop(fuzz::channels(fuzz::FuzzKernel::Payload(bytes))),
        _ => {}
    }
}
