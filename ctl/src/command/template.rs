//! The service files that `service init` prints.

/// The drivers that there is a template for.
pub const DRIVERS: &[&str] = &["exec"];

/// The template of a driver; `NAME` stands for the service's name.
pub fn template(driver: &str, name: &str) -> Option<String> {
    (driver == "exec").then(|| EXEC.replace("NAME", name))
}

const EXEC: &str = r#"# A service for Muster. Check it with: musterctl service validate -f FILE
# and declare it with:                  musterctl service apply -f FILE
[[service]]
name = "NAME"
mode = "exclusive"              # one, never two; or: replicated (with count), everywhere
# count = 3                     # replicated only
# priority = 50                 # 0 to 100: higher is placed first when room is short
# stop_timeout = "30s"          # how long an orderly stop may take

# Where it may run. Labels are set in the agent's configuration or with 'musterctl node label'.
# [service.placement]
# require = ["disk == ssd", "zone in (a, b)"]
# prefer = [{ label = "zone == a", weight = 50 }]
# spread = "zone"

# What it needs of a host.
# [service.resources]
# cpu_millis = 500
# memory_mib = 512

# When a task ends by itself: so often on the same host, then elsewhere.
# [service.restart]
# attempts = 3
# window = "5m"
# backoff = "1s..30s"

[[service.task]]                # started in order, stopped in reverse order
name = "server"
[service.task.exec]
command = ["/usr/bin/python3", "-m", "http.server", "8080"]
# user = "www-data"
# directory = "/srv/NAME"
# env = { LANG = "C.UTF-8" }
# stop_signal = "TERM"

[service.task.health]
tcp = "127.0.0.1:8080"          # or http = "http://127.0.0.1:8080/", or exec = ["/path/to/check"]
interval = "1s"
timeout = "1s"
failures = 3
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_a_valid_service_file() {
        for driver in DRIVERS {
            let text = template(driver, "orders").unwrap();
            let services = crate::file::parse("template.toml", &text).unwrap();
            assert_eq!(services[0].spec.name.as_str(), "orders");
            let all: String = text.lines().map(|line| format!("{}\n", uncommented(line))).collect();
            let all = all.replace("mode = \"exclusive\"", "mode = \"replicated\"");
            crate::file::parse("template.toml", &all).unwrap();
        }
    }

    /// What is commented out is valid as well.
    fn uncommented(line: &str) -> &str {
        let rest = line.trim_start_matches("# ");
        if rest.starts_with('[') || rest.contains(" = ") { rest } else { line }
    }
}
