//! Packs the relocations of the static program, which otherwise are 100 KiB of it. Linkers and glibc
//! have it since 2022 (binutils 2.38, glibc 2.36).

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
