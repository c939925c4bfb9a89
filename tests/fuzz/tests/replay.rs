//! Every input in the corpus, among them whatever once broke something, is survived.

use std::fs;
use std::path::Path;

use patchbay_fuzz as fuzz;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 16] = [
    ("conntrack_decode", fuzz::conntrack_decode::run),
    ("conntrack_words", fuzz::conntrack_words::run),
    ("exec_frames", fuzz::exec_frames::run),
    ("guest_image", fuzz::guest_image::run),
    ("host_files", fuzz::host_files::run),
    ("ipvs_decode", fuzz::ipvs_decode::run),
    ("ipvsadm_words", fuzz::ipvsadm_words::run),
    ("json_input", fuzz::json_input::run),
    ("kernel_texts", fuzz::kernel_texts::run),
    ("netlink", fuzz::netlink::run),
    ("packed", fuzz::packed::run),
    ("qmp_session", fuzz::qmp_session::run),
    ("rtnetlink", fuzz::rtnetlink::run),
    ("rule_file", fuzz::rule_file::run),
    ("small_texts", fuzz::small_texts::run),
    ("wire", fuzz::wire::run),
];

#[test]
fn no_target_is_forgotten() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let mut files: Vec<_> = fs::read_dir(targets)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, TARGETS.map(|(name, _)| format!("{name}.rs")));
}

#[test]
fn the_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, run) in TARGETS {
        let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
        assert!(!inputs.is_empty(), "{name} has no seed");
        for input in inputs {
            let path = input.unwrap().path();
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
        }
    }
}
