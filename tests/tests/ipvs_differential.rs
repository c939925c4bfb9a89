//! Random commands, each by patchbay in the guest and by the real ipvsadm in a namespace beside it:
//! tables, exit classes and lists stay equal.
#![allow(clippy::unwrap_used)]

use patchbay_tests::{Guest, Machine};

const STEPS: usize = 500;
/// After so many steps every format is compared, else only the rules.
const ALL_FORMATS: usize = 25;

/// xorshift64: the same steps for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll() % of.len() as u64).unwrap()]
    }

    fn service(&mut self) -> &'static str {
        self.one(&[
            "-t 10.0.0.1:80",
            "-t 10.0.0.1:81",
            "-u 10.0.0.1:80",
            "--sctp-service 10.0.0.1:80",
            "-t [2001:db8::1]:80",
            "-u [2001:db8::1]:53",
            "-f 1",
            "-f 1 -6",
            "-t 9.255.0.1:0",
        ])
    }

    fn service_words(&mut self) -> String {
        let scheduler = self.one(&[
            "",
            "-s rr",
            "-s wrr",
            "-s sh -b sh-port",
            "-s mh -b mh-fallback,mh-port",
            "-s lblc",
            "-s rr -b flag-1,flag-3",
            "-s nq",
            "-s bogus",
        ]);
        let persistence = self.one(&["", "", "-p", "-p 60", "-p 1 -M 255.255.0.0", "-p 90 -M 64"]);
        let rest = self.one(&["", "", "", "-o", "--pe sip", "-o --pe sip"]);
        format!("{scheduler} {persistence} {rest}")
    }

    fn server(&mut self) -> &'static str {
        self.one(&[
            "-r 10.0.0.2:80",
            "-r 10.0.0.2:8080",
            "-r 10.0.0.3",
            "-r [2001:db8::2]:80",
            "-r 2001:db8::3",
            "-r 224.0.0.1:80",
        ])
    }

    fn server_words(&mut self) -> String {
        let forward = self.one(&[
            "-m",
            "-m",
            "-g",
            "-i",
            "-i --tun-type gue --tun-port 6080",
            "-i --tun-type gre --tun-csum",
            "-i --tun-type gue --tun-port 6081 --tun-remcsum",
        ]);
        let weight = self.one(&["", "-w 0", "-w 7", "-w 70000"]);
        let thresholds = self.one(&["", "", "-x 100", "-x 100 -y 50", "-x 1 -y 2"]);
        format!("{forward} {weight} {thresholds}")
    }

    fn command(&mut self) -> String {
        match self.roll() % 20 {
            0..5 => format!("-A {} {}", self.service(), self.service_words()),
            5..7 => format!("-E {} {}", self.service(), self.service_words()),
            7 => format!("-D {}", self.service()),
            8..14 => format!(
                "-a {} {} {}",
                self.service(),
                self.server(),
                self.server_words()
            ),
            14..16 => format!(
                "-e {} {} {}",
                self.service(),
                self.server(),
                self.server_words()
            ),
            16 => format!("-d {} {}", self.service(), self.server()),
            17 => format!("-Z {}", self.service()),
            18 => format!(
                "--set {} {} {}",
                self.roll() % 900,
                self.roll() % 120,
                self.roll() % 300
            ),
            _ if self.roll().is_multiple_of(8) => "-C".to_owned(),
            _ => "-Z".to_owned(),
        }
    }
}

const FORMATS: &[&str] = &[
    "-L -n",
    "-L -n --stats",
    "-L -n --rate",
    "-L -n --thresholds",
    "-L -n --persistent-conn",
    "-L -n --tun-info",
    "-L -n --exact --stats",
    "-L --timeout",
    "-L -n -c",
];

/// One exec for a whole step of the judge: the command, its status, and the lists.
fn judge(guest: &Guest, command: &str, lists: &[&str]) -> (i32, Vec<String>) {
    let mut script = format!("ipvsadm {command} >/dev/null 2>&1; echo $?");
    for list in lists {
        script.extend(["; echo ====; ipvsadm ", list]);
    }
    let words = [
        "exec",
        guest.id(),
        "--",
        "ip",
        "netns",
        "exec",
        "twin",
        "sh",
        "-c",
        &script,
    ];
    let out = guest.sandbox(&words).ok();
    let mut parts = out.split("====\n").map(str::to_owned);
    (
        parts.next().unwrap().trim().parse().unwrap(),
        parts.collect(),
    )
}

#[test]
fn random_commands_lead_to_the_same_tables() {
    let seed = std::env::var("PATCHBAY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or(0x1f2e_3d4c_5b6a_7988);
    println!("PATCHBAY_SEED={seed}");
    let guest = Guest::start(Machine::Q35);
    guest.make_twin();
    let mut dice = Dice(seed);
    let mut accepted = 0;
    for step in 0..STEPS {
        let command = dice.command();
        let mut lists = vec!["-S -n"];
        if step % ALL_FORMATS == 0 {
            lists.extend(FORMATS);
        } else {
            lists.push(dice.one(FORMATS));
        }
        let ours = guest.ipvsadm(&command);
        let (status, tables) = judge(&guest, &command, &lists);
        let place = format!("seed {seed}, step {step}: {command}");
        assert_eq!(
            ours.status == 0,
            status == 0,
            "{place}: {ours}, judge {status}"
        );
        accepted += usize::from(status == 0);
        for (list, table) in lists.iter().zip(tables) {
            assert_eq!(guest.ipvsadm(list).ok(), table, "{place}: {list}");
        }
    }
    println!("{accepted} of {STEPS} accepted by both");
    assert!(accepted > STEPS / 10, "{accepted}");
}
