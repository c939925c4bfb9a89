//! Two hundred agents on one host, as processes in network namespaces.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::{Netns, bin, run, temp_dir};
use tempfile::TempDir;

use crate::bed::timed;
use crate::plan::Plan;
use crate::row::{Bound, Comparison, Row};
use crate::stats::Samples;

const COUNT: usize = 200;

/// An agent in a namespace with a route that no other has.
struct Lone {
    child: Child,
    url: String,
    route: String,
    _netns: Netns,
}

impl Lone {
    fn start(folder: &TempDir, number: usize) -> Self {
        let netns = Netns::new();
        netns.ip("link add eth0 type veth peer name peer0").ok();
        let route = format!("10.99.{number}.0/24");
        netns
            .ip(&format!("addr add 10.99.{number}.7/24 dev eth0"))
            .ok();
        netns.ip("link set eth0 up").ok();
        let socket = folder.path().join(number.to_string());
        let child = Command::new("ip")
            .args(["netns", "exec", netns.name()])
            .arg(bin("patchbay-agent"))
            .args(["--listen", &format!("unix:{}", socket.display())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            url: format!("unix://{}", socket.display()),
            route,
            _netns: netns,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(bin("patchbay"));
        // Route commands don't use the monitor, which only has to exist.
        command.args(["--qmp", "/dev/null", "--agent", &self.url]);
        command.args(["kata-network", "list-routes", "bench"]);
        command
    }

    fn ask(&self) -> String {
        run(&mut self.command(), "").ok()
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        // Fails if the agent has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Measures the row.
pub(crate) fn measure(plan: Plan) -> Row {
    let folder = temp_dir();
    let agents: Vec<Lone> = (0..COUNT)
        .map(|number| Lone::start(&folder, number))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    for agent in &agents {
        while run(&mut agent.command(), "").status != 0 {
            assert!(Instant::now() < deadline, "{} does not answer", agent.url);
        }
    }
    let (mut all, mut one) = (vec![], vec![]);
    for _ in 0..plan.rounds {
        one.extend(
            agents
                .iter()
                .take(10)
                .map(|agent| timed(&mut agent.command(), None)),
        );
        all.push(at_once(&agents));
    }
    eprintln!("bench: 200 agents");
    let share = 1.0 / f64::from(u32::try_from(COUNT).unwrap());
    Row {
        work: "200 agents driven at once: time for each",
        ours: Samples::new(all).times(share),
        peer: Some(Comparison {
            with: "one agent alone",
            took: Samples::new(one),
            bound: Bound::Within(1.0),
        }),
        floor: None,
    }
}

/// Asserts that every reply has the route of its agent and no other.
fn at_once(agents: &[Lone]) -> Duration {
    let start = Instant::now();
    let replies: Vec<String> = thread::scope(|scope| {
        let requests: Vec<_> = agents
            .iter()
            .map(|agent| scope.spawn(|| agent.ask()))
            .collect();
        requests
            .into_iter()
            .map(|reply| reply.join().unwrap())
            .collect()
    });
    let took = start.elapsed();
    for (agent, reply) in agents.iter().zip(replies) {
        let own = format!(r#""dest":"{}""#, agent.route);
        let dests = reply.matches(r#""dest":"10.99."#).count();
        assert!(reply.contains(&own) && dests == 1, "{own}: {reply}");
    }
    took
}
