//! `metrics` and `exporter`, judged by promtool and Prometheus, by `ip -s` on the host and `ipvsadm` in the guest.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use patchbay_tests::balance::{Balancer, VIP};
use patchbay_tests::{Guest, await_value, bin, run, temp_dir};
use patchbay_types::failure::Kind;
use serde_json::Value;

use super::native::native;

const PROMETHEUS: &str = "127.0.0.1:9090";
const EXPORTER: &str = "127.0.0.1:9961";

/// Returns the value of the sample whose name and labels begin so.
fn value(metrics: &str, sample: &str) -> f64 {
    let mut lines = metrics.lines().filter(|line| line.starts_with(sample));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("no {sample}: {metrics}"));
    assert_eq!(lines.next(), None, "{sample}");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn promtool(words: &[&str], input: &str) {
    let done = run(Command::new("promtool").args(words), input);
    assert_eq!((done.status, &*done.err), (0, ""), "{done}");
}

/// Process that ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a program in the namespace of the guest's devices.
fn start(guest: &Guest, words: &[&str]) -> Running {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", guest.netns().name()]);
    command.args(words).env("PATCHBAY_RUN_DIR", guest.run_dir());
    command.env("PATCHBAY_KATA_ROOTS", guest.run_dir().join("none"));
    Running(command.stderr(Stdio::piped()).spawn().unwrap())
}

/// Waits for a line on standard error.
fn await_line(program: &mut Running, text: &str) {
    let mut lines = BufReader::new(program.0.stderr.take().unwrap()).lines();
    let found = lines.any(|line| line.unwrap().contains(text));
    assert!(found, "the program has ended before '{text}'");
    // The rest must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
}

/// Sends bytes and returns the reply.
fn http(guest: &Guest, address: &str, request: &str) -> String {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = guest
        .netns()
        .within(|| TcpStream::connect(address).unwrap());
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // The server can have refused and closed already.
    let _ = stream.write_all(request.as_bytes());
    let mut reply = String::new();
    let _ = stream.read_to_string(&mut reply);
    reply
}

fn get(guest: &Guest, headers: &str) -> String {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    http(guest, EXPORTER, &request)
}

/// Returns the value of an expression in Prometheus; `None` without a sample.
fn query(guest: &Guest, expression: &str) -> Option<String> {
    let request = format!("GET /api/v1/query?query={expression} HTTP/1.0\r\n\r\n");
    let reply = http(guest, PROMETHEUS, &request);
    let (_, body) = reply.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    let value = body["data"]["result"][0]["value"][1].as_str()?;
    Some(value.to_owned())
}

#[test]
fn metrics_agree_with_the_kernels_and_reach_prometheus() {
    let field = Balancer::start();
    let guest = &field.guest;
    let service = format!("-t {VIP}:8001");
    guest.ipvsadm(&format!("-A {service} -s rr")).ok();
    for host in 1..=3 {
        let server = format!("-a {service} -r 10.2.0.{host} -m -w {host}");
        guest.ipvsadm(&server).ok();
    }
    field.serve(8001);
    drop(field.clients[0].connections(8001, 12));
    drop(field.clients[0].connections(8001, 3));
    values_are_those_of_the_kernels(guest);
    flows_are_those_of_conntrack(guest);
    commands_are_counted(guest);
    servers_are_bounded(guest);
    let mut exporter = start(guest, &[bin("patchbay").to_str().unwrap(), "exporter"]);
    await_line(&mut exporter, EXPORTER);
    requests_are_bounded(guest);
    prometheus_scrapes(guest);
    drop(exporter);
    native(guest, "exporter --listen 0.0.0.0:9961").assert_error(Kind::Invalid, "--public");
    // A machine that is gone is a state.
    guest.sandbox(&["stop", guest.id()]).ok();
}

fn values_are_those_of_the_kernels(guest: &Guest) {
    let id = guest.id();
    let metrics = native(guest, "metrics --format prometheus").ok();
    promtool(&["check", "metrics"], &metrics);
    for (name, expected) in [("machine_running", 1.0), ("agent_up", 1.0), ("cards", 2.0)] {
        let sample = format!("patchbay_{name}{{sandbox=\"{id}\"}}");
        assert_eq!(value(&metrics, &sample).to_string(), expected.to_string());
    }
    let open = native(guest, "metrics").ok();
    assert!(open.ends_with("# EOF\n"), "{open}");
    let of_card = format!("{{sandbox=\"{id}\",card=\"front\"}}");
    for (name, [side, counter]) in [
        ("receive_packets", ["tx", "packets"]),
        ("send_packets", ["rx", "packets"]),
        ("receive_bytes", ["tx", "bytes"]),
        ("send_bytes", ["rx", "bytes"]),
    ] {
        let count = || {
            let shown = guest.netns().ip("-s -j link show tap-front").json();
            shown[0]["stats64"][side][counter].as_f64().unwrap()
        };
        let before = count();
        let metrics = native(guest, "metrics --format prometheus").ok();
        let sample = format!("patchbay_card_{name}_total{of_card}");
        let found = value(&metrics, &sample);
        assert!((before..=count()).contains(&found), "{name}: {found}");
    }
    counters_are_those_of_ipvsadm(guest);
}

fn flows_are_those_of_conntrack(guest: &Guest) {
    // Loads the module that `conntrack` needs.
    native(guest, "conntrack list ID").ok();
    let add = "for i in $(seq 1 40); do conntrack -I -p udp -s 10.0.0.9 -d 10.1.0.1 --sport $i --dport 53 -t 600; done >/dev/null";
    guest
        .shell(&format!(
            "sysctl -w net.netfilter.nf_conntrack_max=5000; {add}"
        ))
        .ok();
    let counted: f64 = guest.shell("conntrack -C").ok().trim().parse().unwrap();
    let metrics = native(guest, "metrics").ok();
    let of_guest = format!("{{sandbox=\"{}\"}}", guest.id());
    let flows = value(&metrics, &format!("patchbay_conntrack_flows{of_guest}"));
    // Flows of the connections before expire.
    assert!(counted >= 40.0 && (counted - flows).abs() < 30.0, "{flows}");
    let limit = value(&metrics, &format!("patchbay_conntrack_limit{of_guest}"));
    assert_eq!(limit.to_string(), "5000");
}

fn commands_are_counted(guest: &Guest) {
    let labels = "{command=\"route list\",result=\"success\"}";
    native(guest, "route list ID").ok();
    let count = || {
        let metrics = native(guest, "metrics --format prometheus").ok();
        let sample = format!("patchbay_command_duration_seconds_count{labels}");
        (value(&metrics, &sample), metrics)
    };
    let (before, _) = count();
    native(guest, "route list ID").ok();
    let (after, metrics) = count();
    assert_eq!((after - before).to_string(), "1");
    promtool(&["check", "metrics"], &metrics);
    let last = "{command=\"route list\",result=\"success\",le=\"+Inf\"}";
    let last = format!("patchbay_command_duration_seconds_bucket{last}");
    assert!(metrics.contains(&last), "{metrics}");
    native(guest, "nic show ID none").assert_error(Kind::NotFound, "none");
    let metrics = native(guest, "metrics").ok();
    let failed = "{command=\"nic show\",result=\"failure\"}";
    let sample = format!("patchbay_command_duration_seconds_count{failed}");
    assert_eq!(value(&metrics, &sample).to_string(), "1");
}

/// `ipvsadm` has a line for the service and one for each server: connections, packets, bytes.
fn counters_are_those_of_ipvsadm(guest: &Guest) {
    let stats = || guest.exec("ipvsadm -Ln --stats --exact").ok();
    // The kernel adds up its counters every two seconds.
    await_value(&true, || {
        let before = stats();
        thread::sleep(Duration::from_millis(2500));
        stats() == before
    });
    let shown = stats();
    let metrics = &native(guest, "metrics --format prometheus").ok();
    let id = guest.id();
    let names = [
        "connections",
        "incoming_packets",
        "outgoing_packets",
        "incoming_bytes",
        "outgoing_bytes",
    ];
    let of_service = format!("sandbox=\"{id}\",service=\"tcp/{VIP}:8001\"");
    let mut servers = 0;
    for line in shown.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (kind, labels) = match words[..] {
            ["TCP", _, ..] => ("service", of_service.clone()),
            ["->", server, ..] if server.starts_with("10.") => {
                servers += 1;
                ("server", format!("{of_service},server=\"{server}\""))
            }
            _ => continue,
        };
        for (name, expected) in names.iter().zip(&words[2..]) {
            let sample = format!("patchbay_ipvs_{kind}_{name}_total{{{labels}}}");
            assert_eq!(value(metrics, &sample).to_string(), *expected, "{sample}");
        }
    }
    assert_eq!(servers, 3, "{shown}");
    for host in 1..=3 {
        let sample =
            format!("patchbay_ipvs_server_weight{{{of_service},server=\"10.2.0.{host}:8001\"}}");
        assert_eq!(value(metrics, &sample).to_string(), host.to_string());
    }
}

/// With `--top 1` the rest is counted, and not listed.
fn servers_are_bounded(guest: &Guest) {
    let metrics = native(guest, "metrics --top 1").ok();
    let samples = |name: &str| {
        metrics
            .lines()
            .filter(|line| line.starts_with(name))
            .count()
    };
    assert_eq!(samples("patchbay_ipvs_server_weight{"), 1, "{metrics}");
    assert_eq!(samples("patchbay_ipvs_service_connections_total{"), 1);
    assert_eq!(value(&metrics, "patchbay_ipvs_servers{").to_string(), "3");
    native(guest, "metrics zzz").assert_error(Kind::NotFound, "no sandbox has the ID 'zzz'");
}

fn requests_are_bounded(guest: &Guest) {
    let reply = get(guest, "");
    assert!(reply.starts_with("HTTP/1.1 200 OK\r\n"), "{reply}");
    assert!(reply.contains("version=0.0.4"), "{reply}");
    let reply = get(
        guest,
        "Accept: application/openmetrics-text;version=1.0.0\r\n",
    );
    assert!(
        reply.contains("version=1.0.0") && reply.ends_with("# EOF\n"),
        "{reply}"
    );
    let long = format!("X: {}\r\n", "x".repeat(9 << 10));
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "404"),
        ("x\r\n\r\n".to_owned(), "400"),
        (format!("GET /metrics HTTP/1.1\r\n{long}"), "400"),
    ] {
        let reply = http(guest, EXPORTER, &request);
        // A client that still sends can lose the reply.
        assert!(
            reply.is_empty() && request.len() > 8192
                || reply.starts_with(&format!("HTTP/1.1 {status} ")),
            "{reply}"
        );
    }
    // Silent clients delay the others, and don't stop them.
    let address: SocketAddr = EXPORTER.parse().unwrap();
    let silent = [(); 2].map(|()| {
        guest
            .netns()
            .within(|| TcpStream::connect(address).unwrap())
    });
    assert!(get(guest, "").starts_with("HTTP/1.1 200 OK\r\n"));
    drop(silent);
}

fn prometheus_scrapes(guest: &Guest) {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus");
    let rules = deploy.join("rules.yml");
    promtool_accepts(&rules, "rules");
    let dir = temp_dir();
    let config = std::fs::read_to_string(deploy.join("prometheus.yml")).unwrap();
    let config = config.replace("15s", "1s");
    let config = config.replace("rules.yml", rules.to_str().unwrap());
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    promtool_accepts(&file, "config");
    let words = [
        "prometheus".to_owned(),
        format!("--config.file={}", file.display()),
        format!("--storage.tsdb.path={}", dir.path().join("data").display()),
        format!("--web.listen-address={PROMETHEUS}"),
    ];
    let mut prometheus = start(guest, &words.each_ref().map(String::as_str));
    await_line(&mut prometheus, "Server is ready to receive web requests");
    let deadline = Instant::now() + Duration::from_secs(60);
    while query(guest, "patchbay_agent_up").as_deref() != Some("1") {
        assert!(Instant::now() < deadline, "nothing was scraped");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(query(guest, "patchbay_ipvs_servers").as_deref(), Some("3"));
    let connections = "sum(patchbay_ipvs_server_connections_total)";
    assert_eq!(query(guest, connections).as_deref(), Some("15"));
    assert_eq!(query(guest, "up").as_deref(), Some("1"));
    expressions_of_the_dashboard_have_samples(guest, &deploy);
}

fn promtool_accepts(file: &Path, kind: &str) {
    let words = ["check", kind, file.to_str().unwrap()];
    run(Command::new("promtool").args(words), "").ok();
}

/// Each metric that the dashboard names exists.
fn expressions_of_the_dashboard_have_samples(guest: &Guest, deploy: &Path) {
    let text = std::fs::read_to_string(deploy.join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut checked = 0;
    for expression in targets.map(|target| target["expr"].as_str().unwrap()) {
        let start = expression.find("patchbay_").unwrap();
        let name = expression[start..].split('{').next().unwrap();
        assert!(query(guest, name).is_some(), "{expression}");
        checked += 1;
    }
    assert!(checked >= 6);
}
