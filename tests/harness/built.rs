//! The built programs and images under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::run;

pub(crate) const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Hash of the present sources.
static SOURCE_STAMP: LazyLock<String> = LazyLock::new(|| {
    let script = Path::new(REPOSITORY).join("scripts/source-stamp.sh");
    run(&mut Command::new(script), "").ok()
});

/// Output of a make target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// The programs.
    Programs,
    /// Kernel and initramfs of the usual guest.
    Image,
    /// The same with Linux 6.12.
    Image6_12,
    /// Kernel and initramfs of the guest with Debian.
    ImageDebian,
    /// Kernel and initramfs of the guest for arm64.
    ImageArm64,
}

impl Built {
    /// Returns the folder of the output. Panics if it was built from other sources than the present
    /// ones, so that no test judges stale programs.
    pub fn dir(self) -> PathBuf {
        let (variable, default, target) = match self {
            Self::Programs => (
                "PATCHBAY_BIN_DIR",
                "x86_64-unknown-linux-gnu/release",
                "image",
            ),
            Self::Image => ("PATCHBAY_IMAGE_DIR", "image", "image"),
            Self::Image6_12 => ("PATCHBAY_IMAGE_6_12_DIR", "image-6.12", "image-6.12"),
            Self::ImageArm64 => ("PATCHBAY_IMAGE_ARM64_DIR", "image-arm64", "image-arm64"),
            Self::ImageDebian => ("PATCHBAY_IMAGE_DEBIAN_DIR", "image-debian", "image-debian"),
        };
        let dir = std::env::var_os(variable).map_or_else(
            || Path::new(REPOSITORY).join("target").join(default),
            PathBuf::from,
        );
        let built_from = fs::read_to_string(dir.join("source-stamp")).unwrap_or_default();
        assert!(
            built_from == *SOURCE_STAMP,
            "{} is missing or was built from other sources: run `make {target}`",
            dir.display()
        );
        dir
    }
}

/// Returns the path of a built program.
pub fn bin(name: &str) -> PathBuf {
    Built::Programs.dir().join(name)
}
