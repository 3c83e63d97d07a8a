//! Healthy recipes of a shape that real ones have: each is green, and its broken twin is red at the trial that is named.

use crate::hung::with_overlay;
use crate::runner::{Ended, edit, is_red};
use crate::truth::{Case, is_green};

const PAGE: &str = "        - \"traefik.http.services.${STACK_NAME}.loadbalancer.server.port=80\"\n        - \"traefik.http.\
                    routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)\"\n";
const PORTS: &str = "generic::install::ports_answer";
const ROUTE: &str = "generic::install::route_leads_to_the_app";
const ANY_HOST: &str = "[policy]\nhosts = [\"*\"]\n[deadlines]\ncall = \"3s\"\n";

/// An app without a page, which Traefik leads to over TCP and UDP.
fn relay(toml: &str, tcp: u16, udp: u16) -> Ended {
    let label = |label: &str| format!("        - \"traefik.{label}\"\n");
    let labels = [
        "tcp.routers.${STACK_NAME}-tcp.rule=HostSNI(`*`)".to_owned(),
        format!("tcp.services.${{STACK_NAME}}-tcp.loadbalancer.server.port={tcp}"),
        "udp.routers.${STACK_NAME}-udp.entrypoints=mumble-udp".to_owned(),
        format!("udp.services.${{STACK_NAME}}-udp.loadbalancer.server.port={udp}"),
    ];
    let labels: String = labels.iter().map(|it| label(it)).collect();
    let case = Case::of("keeps-notes", toml).edit("keeps-notes", "head", PAGE, &labels);
    let talk = "import socket\n\nTALK = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nTALK.bind((\"0.0.0.0\", 64738))\nNOTES =";
    edit(&case.root.path().join("recipes/keeps-notes/head/notes.py"), "NOTES =", talk);
    let case = case.edit("keeps-notes", "head", "_notes_v1", "_notes_v2");
    case.run("keeps-notes", "install")
}

#[test]
fn an_app_without_a_page_is_asked_for_its_ports() {
    let ended = relay(&format!("[http]\nnone = \"a relay\"\n{ANY_HOST}"), 80, 64738);
    is_green(&ended);
    assert_eq!((ended.outcome(PORTS), ended.outcome(ROUTE)), (Some("ok"), Some("ignored (a relay)")), "{ended}");
    let ended = relay(ANY_HOST, 80, 64738);
    is_green(&ended);
    let unverified = "ignored (unverified: no service has a Traefik router or service in its labels, so there is no page to \
                      reach; where the app has none, say why in recipe.toml: `[http] none = \"a relay\"`)";
    assert_eq!(ended.outcome(ROUTE), Some(unverified), "{ended}");
}

#[test]
fn a_port_on_which_nobody_listens_is_red() {
    let ended = relay(ANY_HOST, 64739, 64738);
    is_red(&ended, PORTS, "service `app` must be there on port 64739, which the label `traefik.tcp.services.");
    assert!(ended.message(PORTS).contains("last seen: it refuses them"), "{ended}");
    let ended = relay(ANY_HOST, 80, 64739);
    is_red(&ended, PORTS, "service `app` must be there on port 64739, which the label `traefik.udp.services.");
    assert!(ended.message(PORTS).contains("last seen: no socket has that port"), "{ended}");
}

#[test]
fn a_router_for_another_host_is_asked_for_when_it_is_named() {
    let rule = "rule=Host(`${DOMAIN}`)";
    let elsewhere = |toml: &str| {
        Case::of("whole", toml).edit("whole", "head", rule, "rule=Host(`1.${DOMAIN}`)").run("whole", "install")
    };
    is_green(&elsewhere("[http]\nhost = \"1.${DOMAIN}\"\n"));
    let remedy = "Where its page has another host, name it in recipe.toml: `[http] host = \"www.${DOMAIN}\"`; where it has none, \
                  say why: `[http] none = \"a relay\"`";
    is_red(&elsewhere(""), ROUTE, remedy);
    let ended = Case::of("whole", "[http]\nnone = \"a relay\"\n").run("whole", "install");
    is_red(
        &ended,
        ROUTE,
        "recipe.toml says that the app has no page (`http.none`), and yet the labels lead visitors of `",
    );
    // Its ports are no page, and it has none of them.
    assert_eq!(ended.outcome(PORTS), None, "{ended}");
}

/// A service beside the app, which ends at once.
fn job(toml: &str, command: &str) -> Ended {
    let service = format!(
        "\n  bridge:\n    image: notes:1.0.1\n    command: [\"/bin/sh\", \"-c\", \"{command}\"]\n    deploy:\n      \
         restart_policy: {{condition: any, delay: 6s}}\n\nnetworks:\n  proxy:\n    external: true\n"
    );
    let networks = "\nnetworks:\n  proxy:\n    external: true\n";
    let toml = format!("{toml}[http]\npath = \"/index\"\n");
    let case = Case::of("keeps-notes", &toml).edit("keeps-notes", "head", networks, &service);
    case.run("keeps-notes", "install,custom")
}

#[test]
fn a_job_that_runs_again_on_purpose_is_no_crash_loop() {
    let stable = "generic::install::services_are_stable";
    let ended = job("periodic = [\"bridge\"]\n", "echo once");
    is_green(&ended);
    assert_eq!(ended.outcome(stable), Some("ok"), "{ended}");
    let ended = job("", "echo once");
    is_green(&ended);
    let unverified = "ignored (unverified: tasks of service `bridge` end with code 0 and are started again after a while, as its \
                      restart policy says; if that is meant, say so in recipe.toml: `periodic = [\"bridge\"]`)";
    assert_eq!(ended.outcome(stable), Some(unverified), "{ended}");
    let ended = job("periodic = [\"bridge\"]\n", "echo no; exit 3");
    is_red(
        &ended,
        "tier::install",
        "service `bridge` does not stay up: 3 tasks ended by themselves, the last one: task `",
    );
}

/// The notes answer with the scheme that they were asked by, and with an error to whoever came without encryption.
const SCHEME: &str = "    def do_GET(self):\n        if self.path == \"/scheme\":\n            scheme = \
                      str(self.headers[\"X-Forwarded-Proto\"]) + \" \" + str(self.headers[\"X-Forwarded-Host\"])\n            \
                      return self.answer(200 if scheme.startswith(\"https\") else 400, scheme)\n";

#[test]
fn an_app_that_insists_on_https_is_told_that_it_was_asked_so() {
    let look = "test \"$(curl -fsS \"$APP_URL/scheme\")\" = \"https $APP_DOMAIN\"\n";
    let own = "test \"$(curl -sS -H 'X-Forwarded-Proto: http' \"$APP_URL/scheme\")\" = \"http $APP_DOMAIN\"\n";
    let twin = look.replace("= \"https", "= \"http");
    let overlay = [
        ("recipe.toml", "[http]\npath = \"/scheme\"\n"),
        ("test_install_scheme.sh", look),
        ("test_install_own.sh", own),
        ("test_install_twin.sh", &twin),
    ];
    let (world, root) = with_overlay("keeps-notes", &overlay);
    edit(&root.path().join("recipes/keeps-notes/head/notes.py"), "    def do_GET(self):\n", SCHEME);
    edit(&root.path().join("recipes/keeps-notes/head/compose.yml"), "_notes_v1", "_notes_v2");
    let ended = world.run(&["--recipe", "keeps-notes", "--tiers", "install"]);
    assert_eq!(ended.with_outcome("FAILED"), ["overlays::keeps_notes::install::test_install_twin"], "{ended}");
    for trial in ["overlays::keeps_notes::install::test_install_own", "generic::install::answers_over_http"] {
        assert_eq!(ended.outcome(trial), Some("ok"), "{ended}");
    }
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn an_image_without_a_version_is_noted() {
    let ended =
        Case::of("whole", "").edit("whole", "head", "image: nginx:1.27.5", "image: nginx").run("whole", "install");
    is_green(&ended);
    let note =
        "service `app` runs `nginx`, which is whatever was published last: it changes without a commit of the recipe";
    assert!(ended.stderr.contains(note), "{ended}");
}

#[test]
fn templates_are_rendered_as_docker_renders_them() {
    let look = "ask() { curl -fsS \"$APP_CALLS/exec?raw\" -d '{\"service\": \"app\", \"argv\": [\"'$1'\", \"'$2'\"]}'; }\n\
                test \"$(ask cat /page)\" = \"token=$(ask cat /run/secrets/token) service=${STACK_NAME}_app slot=1 who=me\"\n\
                test \"$(ask cat /etc/hostname)\" = web-1\ntest \"$(ask printenv WHO)\" = me\n\
                test \"$(ask printenv NAME)\" = \"${STACK_NAME}_app\"\n";
    let (world, root) = with_overlay("whole", &[("test_install_page.sh", look)]);
    let dir = root.path().join("recipes/whole/head");
    let template = "token={{ secret \"token\" }} service={{ .Service.Name }} slot={{.Task.Slot}} who={{ env \"WHO\" }}";
    std::fs::write(dir.join("page.tmpl"), template).unwrap();
    let app = "    configs:\n      - page\n    hostname: \"web-{{.Task.Slot}}\"\n    environment:\n      WHO: me\n      NAME: \
               \"{{.Service.Name}}\"\n    secrets:\n      - token\n";
    edit(&dir.join("compose.yml"), "    secrets:\n      - token\n", app);
    let config = "\nconfigs:\n  page:\n    file: page.tmpl\n    template_driver: golang\n    name: \
                  ${STACK_NAME}_page_v1\n\nvolumes:\n  content:\n";
    edit(&dir.join("compose.yml"), "\nvolumes:\n  content:\n", config);
    let ended = world.run(&["--recipe", "whole", "--tiers", "install"]);
    is_green(&ended);
    assert_eq!(ended.outcome("overlays::whole::install::test_install_page"), Some("ok"), "{ended}");
    // What is more than that stays as it is, and is told.
    edit(&dir.join("page.tmpl"), "who=", "{{ range .Service }}who=");
    let ended = world.run(&["--recipe", "whole", "--tiers", "install"]);
    assert_eq!(ended.with_outcome("FAILED"), ["overlays::whole::install::test_install_page"], "{ended}");
    assert!(
        ended.stderr.contains("note     config `page` is a template with more in it than `env`, `secret`"),
        "{ended}"
    );
}

#[test]
fn a_restore_writes_into_files_that_the_app_holds_open() {
    let (root, world) = held_open();
    let ended = world.run(&["--recipe", "keeps-notes"]);
    is_green(&ended);
    assert_eq!(ended.outcome("overlays::keeps_notes::restore::data_held"), Some("ok"), "{ended}");
    drop(root);
}

/// Notes that are read through a file which was opened at the start, as a database does it.
pub fn held_open() -> (tempfile::TempDir, crate::runner::World) {
    let toml = "[http]\npath = \"/held\"\n\n[[data]]\nname = \"held\"\nservice = \"app\"\nrun = \"echo hello > \
                /srv/notes/held\"\nruin = \"echo spoiled > /srv/notes/held\"\nget = \"/held\"\ncontains = \"hello\"\n";
    let (world, root) = with_overlay("keeps-notes", &[("recipe.toml", toml)]);
    let reads = "    def do_GET(self):\n        if self.path == \"/held\":\n            HELD.seek(0)\n            return \
                 self.answer(200, HELD.read())\n";
    for version in ["1.0.0+1.0.0", "head"] {
        let dir = root.path().join("recipes/keeps-notes").join(version);
        edit(&dir.join("notes.py"), "    def do_GET(self):\n", reads);
        edit(&dir.join("notes.py"), "\n\nclass Notes", "\nHELD = (NOTES / \"held\").open(\"a+\")\n\n\nclass Notes");
    }
    (root, world)
}
