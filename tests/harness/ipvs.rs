//! IPVS in a guest: patchbay on one side, the real ipvsadm on the other.

use crate::{Done, Guest, patchbay, run};

/// A network namespace of the guest in which ipvsadm does what patchbay does outside it.
const TWIN: &str = "twin";

impl Guest {
    /// `patchbay kata-ipvs ipvsadm --parameters WORDS ID`.
    pub fn ipvsadm(&self, words: &str) -> Done {
        let words = ["kata-ipvs", "ipvsadm", "--parameters", words, self.id()];
        run(&mut patchbay(self.run_dir(), &words), "")
    }

    /// `patchbay kata-ipvs ipvsadm --restore - [OPTIONS] ID < rules`.
    pub fn restore(&self, options: &[&str], rules: &str) -> Done {
        let words = [
            &["kata-ipvs", "ipvsadm", "--restore", "-"],
            options,
            &[self.id()],
        ]
        .concat();
        run(&mut patchbay(self.run_dir(), &words), rules)
    }

    /// `patchbay kata-ipvs cleanup --parameters WORDS ID`.
    pub fn cleanup(&self, words: &str) -> Done {
        let words = ["kata-ipvs", "cleanup", "--parameters", words, self.id()];
        run(&mut patchbay(self.run_dir(), &words), "")
    }

    /// Makes the namespace for [`Guest::reference_ipvsadm`] alike to the guest's own.
    pub fn create_reference_netns(&self) {
        // The first request loads IPVS and what the words below need.
        for scheduler in [
            "rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "lblc", "lblcr", "fo", "ovf",
        ] {
            self.ipvsadm(&format!("-A -f 4711 -s {scheduler}")).ok();
            self.ipvsadm("-D -f 4711").ok();
        }
        self.ipvsadm("-A -f 4711 --pe sip").ok();
        self.ipvsadm("-C").ok();
        self.exec(&format!("ip netns add {TWIN}")).ok();
        self.exec(&format!("ip -n {TWIN} link set lo up")).ok();
        for netns in ["", &format!("-n {TWIN}")] {
            self.exec(&format!("ip {netns} addr add 10.10.0.1/24 dev lo"))
                .ok();
            self.exec(&format!("ip {netns} route add default dev lo"))
                .ok();
            self.exec(&format!("ip {netns} -6 route add default dev lo"))
                .ok();
        }
    }

    /// The real ipvsadm, in the twin namespace.
    pub fn reference_ipvsadm(&self, words: &[&str]) -> Done {
        let program = [
            "exec",
            self.id(),
            "--",
            "ip",
            "netns",
            "exec",
            TWIN,
            "ipvsadm",
        ];
        self.sandbox(&[&program, words].concat())
    }
}
