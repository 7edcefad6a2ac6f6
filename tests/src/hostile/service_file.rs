//! Service files: TOML, JSON and YAML by the first byte, then a text.
//!
//! What is accepted is printed and read again to the same, also by way of the wire.

use muster_core::spec::ServiceSpec;
use muster_core::spec::file::ServiceFile;
use muster_core::spec::validate::check;

pub(super) fn body(bytes: &[u8]) {
    let Some((syntax, text)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    let file: Option<ServiceFile> = match syntax {
        b'j' => serde_json::from_str(&text).ok(),
        b'y' => serde_yaml_ng::from_str(&text).ok(),
        _ => toml::from_str(&text).ok(),
    };
    let Some(Ok(specs)) = file.map(Vec::<ServiceSpec>::try_from) else { return };
    for spec in &specs {
        assert!(check(spec).is_ok(), "accepted, and not right: {spec:?}");
        let wire = muster_wire::spec_to_proto(spec);
        assert_eq!(muster_wire::spec_from_proto(wire).ok().as_ref(), Some(spec));
    }
    let printed: ServiceFile = specs.iter().collect();
    let printed = toml::to_string(&printed).expect("what was declared can be printed");
    let file: ServiceFile = toml::from_str(&printed).unwrap_or_else(|e| panic!("{e} in\n{printed}"));
    let again = Vec::<ServiceSpec>::try_from(file).unwrap_or_else(|e| panic!("{e} in\n{printed}"));
    assert_eq!(again, specs, "printed as\n{printed}");
}

pub(super) fn seeds() -> Vec<(String, Vec<u8>)> {
    let examples = [
        ("nginx", include_str!("../../../deploy/examples/nginx.toml")),
        ("redis", include_str!("../../../deploy/examples/redis.toml")),
        ("script", include_str!("../../../deploy/examples/script.toml")),
        ("everywhere", include_str!("../../../deploy/examples/everywhere.toml")),
    ];
    let mut seeds = Vec::new();
    for (name, text) in examples {
        let value: toml::Value = toml::from_str(text).expect("an example is right");
        let json = serde_json::to_string(&value).expect("it has a JSON form");
        let yaml = serde_yaml_ng::to_string(&value).expect("it has a YAML form");
        for (syntax, text) in [('t', text), ('j', json.as_str()), ('y', yaml.as_str())] {
            seeds.push((format!("{name}-{syntax}"), format!("{syntax}{text}").into_bytes()));
        }
    }
    let anchors =
        "yx: &a [1]\nservice:\n- &s {name: a, task: [{name: t, exec: {command: [\"/bin/true\"]}}]}\n- *s\n";
    seeds.push(("anchors-y".to_owned(), anchors.as_bytes().to_vec()));
    seeds
}
