//! Files of Kata, containerd, libvirt and launchers in run directories.

use std::collections::BTreeMap;
use std::path::Path;

use patchbay_host::interrupt::Interrupt;
use patchbay_host::sandbox::{Lookup, find};

use crate::harmless;
use crate::pick;
use crate::scratch::Scratch;

const TASKS: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// The first byte selects the file. Each kind has a separate root with the other files it needs.
pub(crate) fn run(data: &[u8]) {
    thread_local!(static ROOTS: [Scratch; 7] = std::array::from_fn(|_| Scratch::new()));
    let (kind, bytes) = pick(data);
    ROOTS.with(|roots| {
        let [ours, go, rust, bundle, container, journal, libvirt] = roots;
        match kind {
            b'0' => found(ours, "patchbay/vm1/sandbox.json", bytes, "vm1"),
            b'1' => found(go, "run/vc/sbs/go1/persist.json", bytes, "go"),
            b'2' => found(rust, "run/kata/rust1/state.json", bytes, "rust"),
            b'3' => {
                bundle.write("run/kata/rust1/root/kata.hvsock", b"");
                found(
                    bundle,
                    &format!("{TASKS}/rust1/config.json"),
                    bytes,
                    "rust1",
                );
            }
            b'4' => {
                container.write("run/kata/rust1/root/kata.hvsock", b"");
                container.write("run/kata/rust1/state.json", b"{}");
                found(container, &format!("{TASKS}/c1/config.json"), bytes, "c1");
            }
            b'5' => {
                journal.write("cards/eth0.json", bytes);
                let kept = patchbay_host::fuzz::journal_round_trips(journal.path());
                let kept = kept.inspect_err(harmless::failure).unwrap_or(true);
                assert!(kept, "a card is another when it is written and read again");
            }
            b'6' => drop(patchbay_host::fuzz::cid(bytes, "s1")),
            b'7' => found(libvirt, "run/libvirt/qemu/web.xml", bytes, "web"),
            _ => {}
        }
    });
}

fn found(root: &Scratch, file: &str, bytes: &[u8], id: &str) {
    root.write(file, bytes);
    if let Err(failure) = find(&lookup(root.path()), id) {
        harmless::failure(&failure);
    }
}

fn lookup(root: &Path) -> Lookup {
    Lookup {
        interrupt: Interrupt::default(),
        run_dir: root.join("patchbay"),
        kata_roots: vec![root.to_owned()],
        machine: None,
        named: BTreeMap::new(),
    }
}
