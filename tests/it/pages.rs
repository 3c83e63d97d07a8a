//! What a visitor must find on a page, what only looks like a page, and what Docker refuses of a recipe before there is one.

use crate::runner::Ended;
use crate::truth::{BASE, Case};

const HTTP: &str = "generic::upgrade::answers_over_http";
const SERVES: &str = "    image: nginx:1.27.5\n    volumes:\n      - content:";

/// The recipe `whole`, with changes to its head's compose file.
fn run(toml: &str, changes: &[(&str, &str)], tiers: &str) -> Ended {
    let case = Case::of("whole", toml);
    changes.iter().fold(case, |case, (from, to)| case.edit("whole", "head", from, to)).run("whole", tiers)
}

/// The head's page.
fn page(toml: &str, page: &str) -> Ended {
    run(toml, &[(SERVES, &served(&format!("echo '{page}' > /usr/share/nginx/html/index.html")))], "install,upgrade")
}

/// A service that does something before it serves.
fn served(before: &str) -> String {
    format!("    command: [\"/bin/sh\", \"-c\", \"{before}; exec static-web\"]\n{SERVES}")
}

#[test]
fn a_page_must_have_the_title_and_the_text_that_recipe_toml_names() {
    let toml = "[deadlines]\ncall = \"2s\"\n";
    let wanted = |keys: &str| format!("{toml}[http]\nstatus = [200, 403, 404]\n{keys}\n");
    let ended = page(&wanted("title = \"Wiki\""), "<title>Setup</title>");
    assert_eq!(ended.outcome(HTTP), Some("FAILED"), "{ended}");
    assert!(ended.message(HTTP).contains(", the title \"Wiki\""), "{ended}");
    assert!(ended.message(HTTP).contains(", whose title is Some(\"Setup\")"), "{ended}");
    let ended = page(&wanted("contains = [\"Log in\"]"), "<title>Wiki</title>Set up");
    assert!(ended.message(HTTP).contains(", in which there is no \"Log in\""), "{ended}");
    let pages = "[[http.pages]]\npath = \"/missing\"\nstatus = [200]";
    let ended = page(&wanted(pages), "<title>Wiki</title>");
    assert_eq!(ended.outcome(HTTP), Some("FAILED"), "{ended}");
    assert!(ended.message(HTTP).contains("/missing"), "{ended}");
}

#[test]
fn a_page_that_looks_like_an_error_is_a_note_unless_it_is_described() {
    let note =
        "`/` answers with 200, but its title is `Fatal error`: `http.title` or `http.contains` in recipe.toml says";
    let ended = page("", "<title>Fatal error</title>");
    assert_eq!(ended.outcome(HTTP), Some("ok"), "{ended}");
    assert_eq!(ended.stderr.matches(note).count(), 1, "{ended}");
    let described = page("[http]\ntitle = \"Fatal error\"\n", "<title>Fatal error</title>");
    for ended in [page("", "<title>Terror of the seas</title>"), described] {
        assert_eq!(ended.outcome(HTTP), Some("ok"), "{ended}");
        assert!(!ended.stderr.contains("answers with 200, but"), "{ended}");
    }
}

/// A page that becomes much smaller is noted, and each is held against itself.
#[test]
fn a_page_that_shrinks_is_a_note_and_a_small_one_beside_a_large_one_is_none() {
    let toml = "[[http.pages]]\npath = \"/large.html\"\nstatus = [200]\n";
    let write = |name: &str, count: usize| format!("printf '%0{count}d' 0 > /usr/share/nginx/html/{name}.html");
    let serves = |large: usize| served(&format!("{}; {}", write("index", 600), write("large", large)));
    let noted = |large: usize| {
        let base = SERVES.replace("1.27.5", "1.27.4");
        let case = Case::of("whole", toml).edit("whole", BASE, &base, &serves(9000).replace("1.27.5", "1.27.4"));
        let ended = case.edit("whole", "head", SERVES, &serves(large)).run("whole", "install,upgrade");
        assert_eq!(ended.outcome(HTTP), Some("ok"), "{ended}");
        ended.stderr.lines().filter(|line| line.contains("answers with 200, but")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(noted(9000), "");
    let shrunken = noted(1000);
    assert!(shrunken.contains("`/large.html` answers with 200, but ") && shrunken.lines().count() == 1, "{shrunken}");
}

/// A recipe that Docker refuses is red before anything is created, with what is wrong.
fn is_refused(changes: &[(&str, &str)], message: &str) {
    let ended = run("", changes, "install,upgrade");
    assert_eq!(ended.code, 101, "{ended}");
    assert!(ended.stderr.contains(message), "expected: {message}\n{ended}");
    assert_eq!(ended.outcome("tier::install"), Some("FAILED"), "{ended}");
}

#[test]
fn what_docker_refuses_is_red_before_anything_is_created() {
    let deploy = "    stop_grace_period: 1s\n    deploy:\n";
    let in_deploy = |lines: &str| format!("{deploy}{lines}");
    is_refused(
        &[(deploy, &in_deploy("      placement:\n        constraints: [node.role == worker]\n"))],
        "service `app`: no node is suitable: the constraint `node.role == worker` is met by no node of one",
    );
    is_refused(
        &[(deploy, &in_deploy("      placement:\n        constraints: [node.role = manager]\n"))],
        "service `app`: the constraint `node.role = manager` is none: one operator is expected from ==, !=",
    );
    is_refused(&[(deploy, &format!("    stop_signal: SIGFOO\n{deploy}"))], "service `app`: invalid signal: `SIGFOO`");
    is_refused(
        &[(deploy, &format!("    cap_drop: [NET_FOO]\n{deploy}"))],
        "unknown capability in `cap_drop`: `NET_FOO`",
    );
    is_refused(
        &[("      - uploads:/srv/uploads\n", "      - uploads:/srv/data\n")],
        "service `db`: duplicate mount point: `/srv/data`",
    );
}

/// Python's server says where the page ends by closing the connection, and closes it without a word of TLS.
#[test]
fn a_page_behind_tls_is_one_although_the_server_hangs_up() {
    let made = rcgen::generate_simple_self_signed(vec!["app".to_owned()]).unwrap();
    let pem = format!("{}{}", made.signing_key.serialize_pem(), made.cert.pem()).replace("\r\n", "\n");
    let pem: String = pem.lines().map(|line| format!("        {line}\n")).collect();
    let serve = "import http.server as h, ssl, os\\n\
                 class H(h.BaseHTTPRequestHandler):\\n  \
                   def do_GET(s):\\n    s.send_response(200); s.end_headers(); s.wfile.write(b'hello')\\n\
                 open('/tmp/c', 'w').write(os.environ['PEM'])\\n\
                 c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('/tmp/c')\\n\
                 class S(h.ThreadingHTTPServer):\\n  \
                   def finish_request(s, r, a): H(c.wrap_socket(r, server_side=True), a, s)\\n\
                 S(('', 8443), H).serve_forever()";
    let app = format!(
        "    image: notes:1.0.1\n    command: [\"/usr/bin/python3\", \"-c\", \"{serve}\"]\n    environment:\n      PEM: |\n{pem}    \
         volumes:\n      - content:"
    );
    let port = "loadbalancer.server.port=80\"\n";
    let https = "loadbalancer.server.port=8443\"\n        - \"traefik.http.services.${STACK_NAME}.loadbalancer.server.scheme=https\"\n";
    let ended = run("[http]\ncontains = [\"hello\"]\n", &[(SERVES, &app), (port, https)], "install,upgrade");
    assert_eq!(ended.outcome(HTTP), Some("ok"), "{ended}");
}
