//! Files on a disk: what cannot be read, and what includes others.

use std::fs;

use super::*;

fn errors(path: &Path) -> Vec<String> {
    load(path).unwrap_err().problems.iter().map(ToString::to_string).collect()
}

#[test]
fn what_cannot_be_read_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    assert_eq!(
        errors(directory.path()),
        [format!(
            "{path}: the configuration is a directory, not a file: name the file in it; more files can be added with include = [\"conf.d/*.toml\"]"
        )]
    );
    let missing = directory.path().join("lbd.toml");
    assert_eq!(
        errors(&missing),
        [format!(
            "{path}/lbd.toml: the configuration file does not exist: name another with --config, or write it; at least\n\n{MINIMAL_EXAMPLE}"
        )]
    );
    fs::write(&missing, b"[daemon]\n# \xff\n").unwrap();
    assert_eq!(
        errors(&missing),
        [format!(
            "{path}/lbd.toml:2: the configuration file is not UTF-8 text from here on: save it as UTF-8"
        )]
    );
    fs::write(&missing, vec![b'#'; (4 << 20) + 1]).unwrap();
    assert_eq!(
        errors(&missing),
        [format!(
            "{path}/lbd.toml: the configuration file is larger than 4 MiB: name a configuration file; a large one can be split with include = [\"conf.d/*.toml\"]"
        )]
    );
    fs::write(&missing, "").unwrap();
    assert_eq!(
        errors(&missing),
        [format!("{path}/lbd.toml: the configuration is empty: write at least\n\n{MINIMAL_EXAMPLE}")]
    );
}

#[test]
fn a_device_without_end_is_refused() {
    let refusal = errors(Path::new("/dev/zero"));
    assert!(refusal[0].starts_with("/dev/zero: the configuration file is larger than 4 MiB"), "{refusal:?}");
}

fn service(name: &str, vip: u8) -> String {
    format!(
        "[[service]]\nname = \"{name}\"\nlisten = [\"192.0.2.{vip}:80/tcp\"]\nbackends = [\"10.0.0.1\"]\n"
    )
}

#[test]
fn included_files_are_read_in_order_with_the_defaults_of_the_main_one() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("conf.d")).unwrap();
    let main = format!(
        "include = [\"conf.d/*.toml\", \"conf.d/a.toml\", \"none/*.toml\"]\n{HEAD}[defaults]\nforward = \"dsr\"\n"
    );
    fs::write(at("lbd.toml"), format!("{main}{}", service("main", 1))).unwrap();
    fs::write(at("conf.d/b.toml"), service("b", 3)).unwrap();
    fs::write(at("conf.d/a.toml"), service("a", 2)).unwrap();
    fs::write(at("conf.d/ignored.txt"), "not = [valid").unwrap();
    let loaded = load(&at("lbd.toml")).unwrap();
    let services: Vec<_> =
        loaded.spec.services.iter().map(|s| (s.name.as_str(), s.forward.as_str())).collect();
    assert_eq!(services, [("main", "dsr"), ("a", "dsr"), ("b", "dsr")]);
    let origin = at("conf.d/b.toml").display().to_string() + ":1";
    assert_eq!(loaded.spec.services[2].origin.to_string(), origin);
    assert_eq!(loaded.sources.len(), 3);
    // A file more is another configuration, whatever its name.
    fs::write(at("conf.d/c.toml"), service("c", 4)).unwrap();
    assert_ne!(load(&at("lbd.toml")).unwrap().fingerprint, loaded.fingerprint);
}

#[test]
fn mistakes_across_files_name_both() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (main, other) = (at("lbd.toml").display().to_string(), at("other.toml").display().to_string());
    fs::write(at("lbd.toml"), format!("include = [\"other.toml\"]\n{HEAD}{}", service("main", 1))).unwrap();
    fs::write(at("other.toml"), format!("include = [\"more.toml\"]\n[daemon]\n{}", service("other", 1)))
        .unwrap();
    assert_eq!(
        errors(&at("lbd.toml")),
        [
            format!("{other}:1: unknown key \"include\": it belongs in the main file, outside of any table"),
            format!("{other}:2: unknown key \"daemon\": it belongs in the main file, outside of any table"),
            format!(
                "{other}:5: listener 192.0.2.1:80/tcp of service \"other\" is taken by service \"main\" at {main}:6: a listener belongs to one service; remove one of the two"
            ),
        ]
    );
    fs::write(at("lbd.toml"), format!("include = [\"others.toml\", \"a[\"]\n{HEAD}")).unwrap();
    assert_eq!(
        errors(&at("lbd.toml")),
        [
            format!(
                "{main}:1: include \"others.toml\" does not exist: correct the path; it is relative to this file"
            ),
            format!(
                "{main}:1: include \"a[\" is no valid pattern (Pattern syntax error near position {}: invalid range pattern): write \"conf.d/*.toml\"",
                directory.path().display().to_string().len() + 2
            ),
        ]
    );
    let refusal = parse("include = [\"a.toml\"]\n[datapath]\ninterfaces = [\"eth0\"]\n", "-").unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "-:1: include \"a.toml\" has no directory to start from: read the configuration from a file"
    );
}
