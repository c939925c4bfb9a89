//! Arguments of `cni`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Sub-commands of `cni`.
#[derive(Debug, Subcommand)]
pub(crate) enum CniCommand {
    /// Copy this program to the places from which Kubernetes' programs run it
    Install(InstallArgs),
    /// Remove these copies
    Uninstall(InstallArgs),
    /// Wait for a signal, as the process of a container that has nothing else to do
    Wait,
}

/// Arguments of `cni install`.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Directory of CNI plugins, which gets patchbay-cni
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub(crate) dir: PathBuf,
    /// Directory for patchbay-qemu and patchbay [default: they are not installed]
    #[arg(long, value_name = "DIR")]
    pub(crate) wrapper_dir: Option<PathBuf>,
    /// Directory with Kata's configuration, which gets a drop-in file that names patchbay-qemu
    #[arg(long, value_name = "DIR", requires = "wrapper_dir")]
    pub(crate) kata_config: Vec<PathBuf>,
}
