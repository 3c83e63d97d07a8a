//! Runs at the same time, of the same recipe: none sees another's checkout, domain, network or results.

use std::collections::BTreeSet;

use crate::runner::World;

#[test]
fn ten_runs_of_one_recipe_at_three_commits_do_not_meet() {
    let world = World::of_checkout();
    let references = ["", "1.10.1+1.27.5", "1.10.0+1.27.4"];
    let ended = std::thread::scope(|scope| {
        let start = |number: usize| {
            let world = &world;
            scope.spawn(move || match references[number % 3] {
                "" => world.run(&["--recipe", "custom-html"]),
                reference => world.run(&["--recipe", "custom-html", "--ref", reference]),
            })
        };
        let runs: Vec<_> = (0..10).map(start).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    let line = |stderr: &str, label: &str| stderr.lines().find_map(|line| line.strip_prefix(label)).unwrap().to_owned();
    let (mut domains, mut versions) = (BTreeSet::new(), BTreeSet::new());
    for ended in &ended {
        assert_eq!(ended.code, 0, "{ended}");
        assert!(ended.stderr.contains("deploy-count = 1 (expect 1)"), "{ended}");
        domains.insert(line(&ended.stderr, "domain   "));
        versions.insert(line(&ended.stderr, "versions "));
    }
    assert_eq!((domains.len(), versions.len()), (10, 3), "{versions:?}");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
