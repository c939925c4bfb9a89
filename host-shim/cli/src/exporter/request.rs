//! Requests of HTTP, as far as the exporter needs them.

use crate::output::metrics::MetricsFormat;

/// Request for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) format: MetricsFormat,
}

/// Reason for a reply without metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not a whole request.
    Malformed,
    Path,
    Method,
}

/// Parses a request. The format is `OpenMetrics` if the client accepts it, and otherwise the text of Prometheus.
pub(super) fn parse(request: &[u8]) -> Result<Parsed, Refusal> {
    let text = std::str::from_utf8(request).map_err(|_| Refusal::Malformed)?;
    let head = text.strip_suffix("\r\n\r\n").ok_or(Refusal::Malformed)?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Refusal::Malformed);
    };
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err(Refusal::Malformed);
    }
    let path = target.split('?').next().unwrap_or_default();
    if path != "/metrics" {
        return Err(Refusal::Path);
    }
    if method != "GET" {
        return Err(Refusal::Method);
    }
    let is_accepted = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            name.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
        });
    let format = if is_accepted {
        MetricsFormat::Openmetrics
    } else {
        MetricsFormat::Prometheus
    };
    Ok(Parsed { format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_get_of_metrics_only() {
        let format = |text: &str| parse(text.as_bytes()).map(|parsed| parsed.format);
        let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        for (request, expected) in [
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                Ok(MetricsFormat::Prometheus),
            ),
            (
                format!("GET /metrics?x=1 HTTP/1.0\r\n{accept}\r\n\r\n"),
                Ok(MetricsFormat::Openmetrics),
            ),
            (
                "POST /metrics HTTP/1.1\r\n\r\n".to_owned(),
                Err(Refusal::Method),
            ),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), Err(Refusal::Path)),
            (
                "GET /metrics/../x HTTP/1.1\r\n\r\n".to_owned(),
                Err(Refusal::Path),
            ),
            (
                "GET /metrics HTTP/1.1\r\nHost: a\r\n".to_owned(),
                Err(Refusal::Malformed),
            ),
            (
                "GET /metrics HTTP/2\r\n\r\n".to_owned(),
                Err(Refusal::Malformed),
            ),
            (
                "GET  /metrics HTTP/1.1\r\n\r\n".to_owned(),
                Err(Refusal::Malformed),
            ),
            (String::new(), Err(Refusal::Malformed)),
        ] {
            assert_eq!(format(&request), expected, "{request:?}");
        }
        assert_eq!(
            parse(b"GET /\xff HTTP/1.1\r\n\r\n"),
            Err(Refusal::Malformed)
        );
    }
}
