//! The number of services and servers, of both families, which nothing else tells at one go.

use std::fs::File;
use std::io::{self, BufRead, BufReader};

/// Of the calling thread's network namespace.
const RULES: &str = "/proc/thread-self/net/ip_vs";
/// Lines above the services.
const HEADER_LINES: usize = 3;

/// Number of services and servers.
pub fn count_rules() -> io::Result<usize> {
    count(BufReader::new(File::open(RULES)?))
}

/// Each has a row.
fn count(mut table: impl BufRead) -> io::Result<usize> {
    let mut rows = 0;
    while table.skip_until(b'\n')? > 0 {
        rows += 1;
    }
    Ok(usize::saturating_sub(rows, HEADER_LINES))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux 6.1 printed.
    const TABLE: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A000001:0050 rr persistent 25000 FFFF0000
  -> 0A00000C:1F90      Masq    70000  0          0         
UDP  [2001:0db8:0000:0000:0000:0000:0000:0001]:13C4 sh persistent 75000 00000040
  -> [2001:0db8:0000:0000:0000:0000:0000:0002]:0035      Masq    3      0          0         
FWM  0000000C wrr
";

    #[test]
    fn rows_behind_the_header_are_counted() {
        assert_eq!(count(TABLE.as_bytes()).unwrap(), 5);
        assert_eq!(count(&TABLE.as_bytes()[..20]).unwrap(), 0);
    }
}
