//! Every mistake of a file is said at once: one in an object hides none of the others.

use super::*;

/// What is said of a text after [`HEAD`] (two lines) begins with these.
fn each(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        let said = said(&format!("{HEAD}{text}"));
        assert_eq!(said.len(), expected.len(), "{said:#?} in\n{text}");
        for (said, expected) in said.iter().zip(*expected) {
            assert!(said.starts_with(expected), "{said}\nis not\n{expected}\nin\n{text}");
        }
    }
}

#[test]
fn a_service_with_two_pools_or_none_is_read_to_its_end() {
    let rest = "name = \"web\"\nlisten = [\"192.0.2.1:80\", \"224.0.0.1:80/tcp\"]\nforward = \"nta\"\naffinity = 1\non_loss = \"x\"\n\
        when_none = \"y\"\nshadow_local = 2\n";
    let both =
        format!("[[service]]\n{rest}pool = \"WEB\"\nbackends = [\"10.0.0.300\", \"255.255.255.255\"]\n");
    let said_of_rest = [
        "lbd.toml:5: listener \"192.0.2.1:80\" has no protocol in service \"web\"",
        "lbd.toml:5: service \"web\" cannot listen on 224.0.0.1:80/tcp: it is a multicast address",
        "lbd.toml:6: forward = \"nta\" is unknown",
        "lbd.toml:7: affinity in service \"web\" is an integer, not a string",
        "lbd.toml:8: on_loss = \"x\" is unknown",
        "lbd.toml:9: when_none = \"y\" is unknown",
        "lbd.toml:10: shadow_local in service \"web\" is an integer, not true or false",
    ];
    let mut expected = said_of_rest.to_vec();
    expected.extend([
        "lbd.toml:11: name \"WEB\" has the capital letter 'W'",
        "lbd.toml:12: service \"web\" has both pool and backends: keep one of them",
        "lbd.toml:12: backend \"10.0.0.300\" has no valid IP address",
        "lbd.toml:12: backend 255.255.255.255 of pool \"web\" cannot be reached: it is the broadcast address",
    ]);
    let mut neither = vec!["lbd.toml:3: service \"web\" has neither a pool nor backends"];
    neither.extend(said_of_rest);
    each(&[(&both, &expected), (&format!("[[service]]\n{rest}"), &neither)]);
}

#[test]
fn what_has_no_name_is_read_and_judged_all_the_same() {
    each(&[
        (
            "[[service]]\nlisten = [\"192.0.2.1/tcp\", \"0.0.0.0:80/tcp\"]\nbackends = [\"web-1\"]\nhealth = { rise = 0 }\nlisen = 1\n",
            &[
                "lbd.toml:3: this [[service]] has no name",
                "lbd.toml:4: listener \"192.0.2.1/tcp\" has no port in [[service]]",
                "lbd.toml:4: service \"(unnamed 1)\" cannot listen on 0.0.0.0:80/tcp: it is no single address",
                "lbd.toml:5: backend \"web-1\" has a name where an address belongs in [[service]]",
                "lbd.toml:6: rise = 0 is out of range in health of [[service]]",
                "lbd.toml:7: unknown key \"lisen\" in [[service]]: did you mean \"listen\"?",
            ],
        ),
        (
            "[[pool]]\nname = \"Web\"\nmaglev = 7\nbackends = [\n  { address = 5, weight = -1 },\n  { adress = \"10.0.0.1\", weight = \"5\" },\n  \"10.0.0.2\",\n  \"10.0.0.2\",\n]\nhealth = { type = \"htp\", path = 5, port = 0 }\n",
            &[
                "lbd.toml:4: name \"Web\" has the capital letter 'W'",
                "lbd.toml:5: maglev = 7 is no size of a table",
                "lbd.toml:7: address in backend 1 of pool \"Web\" is an integer, not a string",
                "lbd.toml:7: weight = -1 is out of range",
                "lbd.toml:8: unknown key \"adress\" in backend 2 of pool \"Web\": did you mean \"address\"?",
                "lbd.toml:8: address is missing in backend 2",
                "lbd.toml:8: weight in backend 2 of pool \"Web\" is a string, not a whole number",
                "lbd.toml:10: backend 10.0.0.2 is in pool \"(unnamed 1)\" twice, first at lbd.toml:9",
                "lbd.toml:12: type = \"htp\" is unknown",
                "lbd.toml:12: port = 0 is out of range",
                "lbd.toml:12: path in health of pool \"Web\" is an integer, not a string",
            ],
        ),
    ]);
}

#[test]
fn objects_are_judged_beside_one_that_has_mistakes() {
    each(&[
        // A pool with a mistake, and services that use it: each is judged by what was read.
        (
            "[[pool]]\nname = \"a\"\nbackends = [\"10.0.0.1\", \"10.0.0.1\"]\nhelth = 1\n\
             [[service]]\nname = \"one\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"a\"\n\
             [[service]]\nname = \"two\"\nlisten = [\"192.0.2.1:80/tcp\", \"169.254.0.1:80/tcp\"]\npool = \"a\"\nafinity = \"none\"\n\
             [[service]]\nname = \"two\"\nlisten = [\"192.0.2.3:80/tcp\"]\npool = \"b\"\n",
            &[
                "lbd.toml:5: backend 10.0.0.1 is in pool \"a\" twice",
                "lbd.toml:6: unknown key \"helth\"",
                "lbd.toml:13: listener 192.0.2.1:80/tcp of service \"two\" is taken by service \"one\" at lbd.toml:9",
                "lbd.toml:13: service \"two\" cannot listen on 169.254.0.1:80/tcp",
                "lbd.toml:15: unknown key \"afinity\"",
                "lbd.toml:16: service \"two\" is defined twice, first at lbd.toml:11",
                "lbd.toml:16: service \"two\" names the pool \"b\", which does not exist",
            ],
        ),
        // Defaults that cannot be read.
        (
            "[defaults]\nforward = \"ipipp\"\nhealth = 5\n\
             [[service]]\nname = \"one\"\nlisten = [\"192.0.2.1:80/tcp\", \"[fe80::1]:80/tcp\"]\nbackends = [\"10.0.0.1\"]\naffinity = \"none\"\n",
            &[
                "lbd.toml:4: forward = \"ipipp\" is unknown",
                "lbd.toml:5: health in [defaults] is an integer, not a table",
                "lbd.toml:8: service \"one\" cannot listen on [fe80::1]:80/tcp",
                "lbd.toml:8: service \"one\" has affinity = \"none\" with the listener 192.0.2.1:80/tcp",
            ],
        ),
        // A pool that the service names keeps its health; what stands in the wrong place is read too.
        (
            "[[pool]]\nname = \"p\"\nbackends = [\"10.0.0.1\"]\n\
             [[service]]\nname = \"web\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"p\"\nhealth = { tipe = \"tcp\" }\n",
            &[
                "lbd.toml:10: health belongs to the pool and cannot stand in service \"web\"",
                "lbd.toml:10: unknown key \"tipe\" in health of service \"web\"",
            ],
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = [\"127.0.0.9:80/tcp\"]\nbackends = [\"10.0.0.1\"]\n[[pool]]\nname = 5\nbackends = 1\n",
            &[
                "lbd.toml:5: service \"a\" listens on 127.0.0.9:80/tcp, which is reached from this host only, by lo",
                "lbd.toml:8: name in [[pool]] is an integer, not a string",
                "lbd.toml:9: backends in [[pool]] is an integer, not an array",
            ],
        ),
    ]);
}

#[test]
fn what_follows_from_a_mistake_is_not_said_again() {
    each(&[
        // No "has no listener", "has no backends", "does not exist", "has only IPv4 backends", "has no port to check".
        (
            "[[service]]\nname = \"a\"\nlisten = [\"x\"]\nbackends = [\"y\"]\n",
            &["lbd.toml:5: listener \"x\"", "lbd.toml:6: backend \"y\""],
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"p\"\n[[pool]]\nname = \"P\"\nbackends = [\"10.0.0.1\"]\n",
            &["lbd.toml:8: name \"P\""],
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = [\"[2001:db8::1]:80/tcp\"]\nbackends = [\"10.0.0.1\", \"2001:db8::x\"]\n",
            &["lbd.toml:6: backend \"2001:db8::x\""],
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackends = [\"10.0.0.1:81\"]\nforwrd = \"nat\"\n[defaults]\nforward = \"dsr\"\n",
            &["lbd.toml:7: unknown key \"forwrd\""],
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = [\"192.0.2.1:any/tcp\"]\nbackends = [\"10.0.0.1\"]\nhealth = { prt = 80 }\n",
            &["lbd.toml:7: unknown key \"prt\""],
        ),
        (
            "[[service]]\nname = \"a\"\nlisten = [\"192.0.2.1:80/tcp\"]\nbackend = [\"10.0.0.1\"]\n",
            &["lbd.toml:3: service \"a\" has neither", "lbd.toml:6: unknown key \"backend\""],
        ),
    ]);
    // An interface that was meant to be another; an included file that is not there.
    let text = "include = [\"web.toml\"]\n[datapath]\ninterfaces = [\"eth0\", \"l o\"]\n[[service]]\nname = \"a\"\nlisten = [\"127.0.0.9:80/tcp\"]\npool = \"p\"\n";
    let expected = ["lbd.toml:1: include \"web.toml\"", "lbd.toml:3: \"l o\" is no name of an interface"];
    let said = said(text);
    assert_eq!(said.len(), 2, "{said:#?}");
    assert!(said.iter().zip(expected).all(|(said, expected)| said.starts_with(expected)), "{said:#?}");
}

/// What is in a table with a wrong name was not read: what follows from that is not said.
#[test]
fn a_table_with_a_wrong_name_has_no_consequences() {
    let service = "[[service]]\nname = \"a\"\nlisten = [\"192.0.2.1:53/udp\"]\n";
    let own = "backends = [\"10.0.0.1:53\"]\n";
    each(&[
        (&format!("[[pol]]\nname = \"p\"\n{service}pool = \"p\"\n"), &["lbd.toml:3: unknown key \"pol\""]),
        (
            &format!(
                "[default]\nforward = \"dsr\"\n{service}backends = [\"10.0.0.1\"]\naffinity = \"none\"\n"
            ),
            &["lbd.toml:3: unknown key \"default\""],
        ),
        (
            &format!(
                "[[servce]]\nname = \"b\"\n[[pool]]\nname = \"p\"\nbackends = [\"10.0.0.1\"]\n{service}{own}"
            ),
            &["lbd.toml:3: unknown key \"servce\""],
        ),
    ]);
    let said = said(&format!(
        "[datapth]\ninterfaces = [\"lo\"]\n{}{own}",
        service.replace("192.0.2.1", "127.0.0.9")
    ));
    assert!(said.len() == 1 && said[0].starts_with("lbd.toml:1: unknown key \"datapth\""), "{said:#?}");
}

#[test]
fn a_backup_is_another_pool_that_exists_and_comes_back_later_than_it_goes() {
    let pools = |backup: &str| {
        format!(
            "{HEAD}[[service]]\nname = \"s\"\nlisten = [\"192.0.2.1:80/tcp\"]\npool = \"web\"\n[[pool]]\nname = \"web\"\nbackends = [\"10.0.0.1\"]\nbackup = {backup}\n[[pool]]\nname = \"sorry\"\nbackends = [\"10.0.0.9\"]\n"
        )
    };
    assert_eq!(said(&pools("\"sorry\"")), [] as [&str; 0]);
    assert_eq!(said(&pools("{ pool = \"sorry\", below = \"50%\", hold = \"1m\" }")), [] as [&str; 0]);
    for (backup, sentence) in [
        (
            "\"sory\"",
            "the backup of pool \"web\" is the pool \"sory\", which does not exist: did you mean \"sorry\"?",
        ),
        ("\"web\"", "pool \"web\" is its own backup: name another pool, or leave backup out"),
        ("{ below = \"5%\" }", "pool is missing in backup of pool \"web\": write { pool = \"sorry\" }"),
        ("{ pool = \"sorry\", above = \"5\" }", "\"5\" is no share"),
        (
            "{ pool = \"sorry\", below = \"50%\", above = \"20%\" }",
            "above = \"20%\" is less than below = \"50%\" in backup of pool \"web\"",
        ),
    ] {
        let errors = said(&pools(backup));
        assert!(errors.iter().any(|error| error.contains(sentence)), "{backup}: {errors:?}");
    }
}

/// What is forwarded to a backup's backends is so by the rules of the service whose pool is down.
#[test]
fn backends_of_a_backup_must_suit_the_services_of_the_pool_it_stands_in_for() {
    let pools = |listen: &str, keys: &str, backup: &str| {
        format!(
            "{HEAD}[[service]]\nname = \"s\"\nlisten = [\"{listen}\"]\npool = \"web\"\n{keys}\n[[pool]]\nname = \"web\"\nbackends = [\"10.0.0.1\"]\nbackup = \"sorry\"\nhealth = {{ port = 80 }}\n[[pool]]\nname = \"sorry\"\nbackends = [\"{backup}\"]\nhealth = {{ port = 80 }}\n"
        )
    };
    let one = "192.0.2.1:80/tcp";
    for (listen, keys, backup, sentence) in [
        (
            one,
            "forward = \"dsr\"",
            "10.0.9.1:8080",
            "has port 8080 but service \"s\" listens on 192.0.2.1:80/tcp",
        ),
        (one, "", "192.0.2.1", "has the address of service \"s\" itself"),
        (one, "", "127.0.0.1", "cannot be reached from"),
        ("192.0.2.1:any/tcp", "forward = \"nat\"", "10.0.9.1:80", "which takes every port"),
    ] {
        let errors = said(&pools(listen, keys, backup));
        let is_told = |error: &&String| {
            error.contains(sentence) && error.contains("(pool \"sorry\" is the backup of pool \"web\")")
        };
        assert!(errors.iter().any(|error| is_told(&error)), "{backup}: {errors:?}");
    }
    // Flows of a listener for every port and of one with a port must not meet at an endpoint of the backup either.
    let open = "[[service]]\nname = \"all\"\nlisten = [\"192.0.2.2:any/tcp\"]\nforward = \"nat\"\nbackends = [\"10.0.9.1\"]\nhealth = { port = 80 }\n";
    let errors = said(&(pools(one, "forward = \"nat\"", "10.0.9.1") + open));
    assert!(errors.iter().any(|error| error.contains("where they are not kept apart")), "{errors:?}");
}
