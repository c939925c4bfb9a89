//! Runs each target on its corpus, which includes the inputs of past findings.

use std::fs;
use std::path::Path;

use patchbay_fuzz::TARGETS;

#[test]
fn corpus_is_replayed() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    assert_eq!(fs::read_dir(&corpus).unwrap().count(), TARGETS.len());
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
