use super::*;

const GOOD: &str = r#"[[service]]
name = "a"
[[service.task]]
name = "main"
[service.task.exec]
command = ["/bin/sleep", "1"]

[[service]]
name = "b"
mode = "replicated"
count = 2
[[service.task]]
name = "main"
[service.task.exec]
command = ["/bin/sleep", "1"]
"#;

fn problem(file: &str, text: &str) -> String {
    parse(file, text).unwrap_err().to_string()
}

#[test]
fn a_file_may_hold_several_services() {
    let all = parse("x.toml", GOOD).unwrap();
    let found: Vec<(&str, usize)> = all.iter().map(|d| (d.spec.name.as_str(), d.line)).collect();
    assert_eq!(found, [("a", 1), ("b", 8)]);
}

#[test]
fn an_unknown_key_has_its_line_and_the_nearest_known_one() {
    let text = GOOD.replace("mode = ", "mod = ");
    let text = problem("x.toml", &text);
    assert!(text.starts_with("x.toml:10: unknown key 'mod' of service: did you mean 'mode'?"), "{text}");
}

#[test]
fn a_wrong_type_has_its_line_and_key() {
    let text = problem("x.toml", &GOOD.replace("count = 2", "count = \"two\""));
    assert!(text.starts_with("x.toml:11: count: invalid type"), "{text}");
}

#[test]
fn a_wrong_value_has_its_line_and_key() {
    let text = problem("x.toml", &GOOD.replacen("[\"/bin/sleep\", \"1\"]", "[\"bin/sleep\"]", 1));
    assert_eq!(text, "x.toml:6: service a: task.main.exec.command: 'bin/sleep' is a relative path");
    let text = problem("x.toml", &GOOD.replace("count = 2", "count = 0"));
    assert!(text.starts_with("x.toml:11: service b: count: 0 is out of range"), "{text}");
}

#[test]
fn a_missing_key_is_put_at_its_table() {
    let text =
        problem("x.toml", &GOOD.replacen("[service.task.exec]\ncommand = [\"/bin/sleep\", \"1\"]\n", "", 1));
    assert!(text.starts_with("x.toml:3: service a: task.main: is missing"), "{text}");
}

#[test]
fn broken_syntax_has_its_line() {
    let text = problem("x.toml", &GOOD.replace("name = \"b\"", "name = b"));
    assert!(text.starts_with("x.toml:9: "), "{text}");
    let text = problem("x.json", "{\n  \"service\": [\n}");
    assert!(text.starts_with("x.json:3: "), "{text}");
    let text = problem("x.yaml", "service:\n- name: [a\n");
    assert!(text.starts_with("x.yaml:"), "{text}");
}

#[test]
fn json_and_yaml_have_the_same_structure() {
    let json = r#"{"service": [{"name": "a", "task": [{"name": "m", "exec": {"command": ["/bin/true"]}}]}]}"#;
    assert_eq!(parse("x.json", json).unwrap().len(), 1);
    assert_eq!(parse("stdin", json).unwrap().len(), 1);
    let yaml = "service:\n- name: a\n  task:\n  - name: m\n    exec:\n      command: [/bin/true]\n";
    assert_eq!(parse("x.yaml", yaml).unwrap()[0].line, 2);
    assert_eq!(parse("stdin", yaml).unwrap().len(), 1);
    let text = problem("x.yaml", &yaml.replace("/bin/true", "bin/true"));
    assert!(text.starts_with("x.yaml:6: service a: task.m.exec.command"), "{text}");
    let text = problem("x.yaml", &yaml.replace("exec:", "exce:"));
    assert!(text.starts_with("x.yaml:5: ") && text.contains("did you mean 'exec'"), "{text}");
}

#[test]
fn an_empty_file_and_a_missing_one_are_named() {
    assert_eq!(problem("x.toml", ""), "x.toml:1: service: the file declares no service");
    let missing = load(&["/nonexistent/x.toml".to_owned()]).unwrap_err();
    assert_eq!(missing.exit(), Exit::BadFile);
    assert!(missing.to_string().starts_with("/nonexistent/x.toml: "));
}

#[test]
fn a_service_that_is_declared_twice_is_refused_with_both_places() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("1.toml"), GOOD).unwrap();
    std::fs::write(path("2.toml"), GOOD.replace("\"a\"", "\"c\"")).unwrap();
    let text = load(&[path("1.toml"), path("2.toml")]).unwrap_err().to_string();
    let (one, two) = (path("1.toml"), path("2.toml"));
    assert_eq!(text, format!("{two}:8: service b is declared twice, first at {one}:8"));
}
