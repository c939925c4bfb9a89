//! IPVS in a guest: patchbay in its own network namespace, ipvsadm in a reference namespace.

use crate::{Done, Guest, patchbay, run};

/// Network namespace of the guest in which ipvsadm repeats what patchbay does in the first one.
pub const REFERENCE_NETNS: &str = "reference";

impl Guest {
    /// Runs `patchbay kata-ipvs ipvsadm --parameters WORDS ID`.
    pub fn ipvsadm(&self, words: &str) -> Done {
        let words = ["kata-ipvs", "ipvsadm", "--parameters", words, self.id()];
        run(&mut patchbay(self.run_dir(), &words), "")
    }

    /// Runs `patchbay kata-ipvs ipvsadm --restore - [OPTIONS] ID < rules`.
    pub fn restore(&self, options: &[&str], rules: &str) -> Done {
        let words = [
            &["kata-ipvs", "ipvsadm", "--restore", "-"],
            options,
            &[self.id()],
        ]
        .concat();
        run(&mut patchbay(self.run_dir(), &words), rules)
    }

    /// Runs `patchbay kata-ipvs cleanup --parameters WORDS ID`.
    pub fn cleanup(&self, words: &str) -> Done {
        let words = ["kata-ipvs", "cleanup", "--parameters", words, self.id()];
        run(&mut patchbay(self.run_dir(), &words), "")
    }

    /// Creates the namespace of [`Guest::reference_ipvsadm`], with the same addresses and routes as the
    /// guest's first one.
    pub fn create_reference_netns(&self) {
        // Loads IPVS and the schedulers, which a new namespace can't load.
        for scheduler in [
            "rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "lblc", "lblcr", "fo", "ovf",
        ] {
            self.ipvsadm(&format!("-A -f 4711 -s {scheduler}")).ok();
            self.ipvsadm("-D -f 4711").ok();
        }
        self.ipvsadm("-A -f 4711 --pe sip").ok();
        self.ipvsadm("-C").ok();
        self.exec(&format!("ip netns add {REFERENCE_NETNS}")).ok();
        self.exec(&format!("ip -n {REFERENCE_NETNS} link set lo up"))
            .ok();
        for netns in ["", &format!("-n {REFERENCE_NETNS}")] {
            self.exec(&format!("ip {netns} addr add 10.10.0.1/24 dev lo"))
                .ok();
            self.exec(&format!("ip {netns} route add default dev lo"))
                .ok();
            self.exec(&format!("ip {netns} -6 route add default dev lo"))
                .ok();
        }
    }

    /// Runs ipvsadm in the reference namespace.
    pub fn reference_ipvsadm(&self, words: &[&str]) -> Done {
        let program = [
            "exec",
            self.id(),
            "--",
            "ip",
            "netns",
            "exec",
            REFERENCE_NETNS,
            "ipvsadm",
        ];
        self.sandbox(&[&program, words].concat())
    }
}
