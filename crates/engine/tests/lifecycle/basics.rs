//! Create, start, stop, remove: states, codes, messages, and that nothing is left behind.
use corten_engine::{
    container::{
        create::Base,
        view::{ListOptions, RemoveOptions, WaitCondition},
    },
    error::Kind,
};

use crate::world::{World, named, parent, shell};

crate::tests![
    a_container_runs_to_its_end_and_goes,
    an_exit_code_is_kept,
    a_missing_program_leaves_a_container_that_says_why,
    a_name_is_had_once,
    what_runs_cannot_be_removed_without_force,
    stop_takes_the_signal_and_then_kills,
    fifty_throw_away_containers_lose_nothing,
    the_first_of_a_cgroup_parent_start_at_once,
    a_container_can_be_paused_renamed_and_started_again,
    anonymous_volumes_go_with_their_container,
    lists_are_filtered_and_the_rest_is_pruned,
];

async fn a_container_runs_to_its_end_and_goes() {
    let world = World::new().await;
    let (_, mut events) = world.engine().events().subscribe(None);
    let (id, end) = world.run(shell("exit 0")).await;
    assert_eq!(end.exit_code, 0);
    let view = world.engine().containers().inspect(&id[..12]).expect("known");
    assert_eq!(view.state.phase.status(), "exited");
    assert!(view.state.started_at < view.state.finished_at);
    world
        .engine()
        .containers()
        .remove(&id, RemoveOptions::default())
        .await
        .expect("removed");
    let mut actions = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.actor, id);
        actions.push(event.action.clone());
    }
    assert_eq!(actions, ["create", "start", "die", "destroy"]);
    world.assert_clean();
}

async fn an_exit_code_is_kept() {
    let world = World::new().await;
    let (id, end) = world.run(shell("exit 42")).await;
    assert_eq!(end.exit_code, 42);
    assert_eq!(
        world.engine().containers().inspect(&id).expect("known").state.exit_code,
        42
    );
    let (id, end) = world.run(shell("kill -TERM $$; sleep 5")).await;
    // Process 1 takes no signal that it has no handler for.
    assert!(end.exit_code == 0 || end.exit_code == 143, "{end:?} of {id}");
}

async fn a_missing_program_leaves_a_container_that_says_why() {
    let world = World::new().await;
    for (program, code, words) in [
        ("no-such-program", 127, "executable file not found in $PATH"),
        ("/etc", 126, "is a directory"),
        ("/etc/hostname", 126, "permission denied"),
        ("/no/such", 127, "no such file or directory"),
    ] {
        let mut options = shell("");
        options.config.cmd = Some(vec![program.to_owned()]);
        let id = world.create(options).await;
        let error = world.engine().containers().start(&id).await.expect_err(program);
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error.to_string().starts_with("failed to create task for container"),
            "{error}"
        );
        let state = world.engine().containers().inspect(&id).expect("known").state;
        assert_eq!((state.phase.status(), state.exit_code), ("created", code));
        assert!(state.error.contains(words));
        assert!(world.names("run/tasks").is_empty());
        world.remove(&id).await;
    }
    world.assert_clean();
}

async fn a_name_is_had_once() {
    let world = World::new().await;
    let id = world.create(named("web", shell("true"))).await;
    let containers = world.engine().containers();
    let error = containers
        .create_on(Base::default(), named("web", shell("true")))
        .await
        .expect_err("taken");
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        )
    );
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(containers.inspect("/web").expect("known").record.id, id);
    assert_eq!(
        containers.inspect("nobody").expect_err("unknown").to_string(),
        "No such container: nobody"
    );
    world.remove("web").await;
    let again = world.create(named("web", shell("true"))).await;
    world.remove(&again).await;
    world.assert_clean();
}

async fn what_runs_cannot_be_removed_without_force() {
    let world = World::new().await;
    let id = world.start(named("busy", shell("sleep 100"))).await;
    let containers = world.engine().containers();
    let error = containers
        .remove(&id, RemoveOptions::default())
        .await
        .expect_err("runs");
    assert_eq!(
        error.to_string(),
        "cannot remove container \"/busy\": container is running: stop the container before removing or force remove"
    );
    assert_eq!(containers.start(&id).await.expect_err("runs").kind(), Kind::NotModified);
    world.remove(&id).await;
    world.assert_clean();
}

async fn stop_takes_the_signal_and_then_kills() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let polite = world
        .start(shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"))
        .await;
    world.wait_for_ready(&polite).await;
    containers.stop(&polite, None, None).await.expect("stopped");
    assert_eq!(containers.inspect(&polite).expect("known").state.exit_code, 7);
    assert_eq!(
        containers.stop(&polite, None, None).await.expect_err("stopped").kind(),
        Kind::NotModified
    );
    let deaf = world
        .start(shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"))
        .await;
    world.wait_for_ready(&deaf).await;
    containers.stop(&deaf, None, Some(0)).await.expect("stopped");
    assert_eq!(containers.inspect(&deaf).expect("known").state.exit_code, 137);
    let error = containers.kill(&deaf, None).await.expect_err("ended").to_string();
    assert_eq!(
        error,
        format!("cannot kill container: {deaf}: container {deaf} is not running")
    );
    world.remove(&polite).await;
    world.remove(&deaf).await;
    world.assert_clean();
}

async fn fifty_throw_away_containers_lose_nothing() {
    let world = World::new().await;
    let containers = world.engine().containers();
    for number in 0..50 {
        let mut options = shell(&format!("exit {number}"));
        options.host_config.auto_remove = true;
        let id = world.create(options).await;
        let end = containers.wait(&id, WaitCondition::Removed).await.expect("waiting");
        containers.start(&id).await.expect("started");
        assert_eq!(end.await.exit_code, number);
        assert!(containers.inspect(&id).is_err());
    }
    world.assert_clean();
}

async fn a_container_can_be_paused_renamed_and_started_again() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let id = world.start(named("one", shell("sleep 100"))).await;
    containers.pause(&id).await.expect("paused");
    assert_eq!(containers.inspect(&id).expect("known").state.phase.status(), "paused");
    assert_eq!(
        containers.pause(&id).await.expect_err("paused").to_string(),
        format!("Container {id} is already paused")
    );
    containers.unpause(&id).await.expect("unpaused");
    containers.rename("one", "two").await.expect("renamed");
    let running = containers.list(ListOptions::default()).await.expect("listed");
    assert_eq!(
        running.iter().map(|view| view.record.name.as_str()).collect::<Vec<_>>(),
        ["two"]
    );
    let top = containers.top("two", "").await.expect("runs");
    assert!(
        top.processes[0]
            .last()
            .is_some_and(|command| command.contains("sleep 100")),
        "{top:?}"
    );
    assert!(containers.stats("two").await.expect("runs").memory.usage > 0);
    containers.restart("two", None, Some(0)).await.expect("restarted");
    assert_eq!(
        containers.inspect("two").expect("known").state.phase.status(),
        "running"
    );
    containers.pause("two").await.expect("paused");
    world.remove("two").await;
    world.assert_clean();
}

async fn anonymous_volumes_go_with_their_container() {
    let world = World::new().await;
    let mut options = shell("echo kept > /data/file; echo kept > /named/file");
    options
        .host_config
        .binds
        .get_or_insert_default()
        .push("store:/named".to_owned());
    options.config.volumes = Some([("/data".to_owned(), Default::default())].into());
    let (id, end) = world.run(options).await;
    assert_eq!(end.exit_code, 0);
    assert_eq!(world.names("data/volumes").len(), 2);
    world.remove(&id).await;
    assert_eq!(world.names("data/volumes"), ["store"]);
    let file = world.directory.path().join("data/volumes/store/_data/file");
    assert_eq!(std::fs::read_to_string(file).expect("kept"), "kept\n");
}

async fn lists_are_filtered_and_the_rest_is_pruned() {
    let world = World::new().await;
    let containers = world.engine().containers();
    let mut labelled = named("first", shell("exit 4"));
    labelled.config.labels.insert("tier".to_owned(), "back".to_owned());
    let (first, _) = world.run(labelled).await;
    let second = world.start(named("second", shell("sleep 100"))).await;
    let third = world.create(named("third", shell("true"))).await;
    let names = |all: bool, limit: usize, filters: &[(&str, &str)]| {
        let filters = filters
            .iter()
            .map(|&(key, value)| (key.to_owned(), vec![value.to_owned()]))
            .collect();
        containers.list(ListOptions {
            all,
            limit,
            filters,
            ..ListOptions::default()
        })
    };
    for (all, limit, filters, expected) in [
        (false, 0, &[][..], "second"),
        (true, 0, &[], "third second first"),
        (false, 2, &[], "third second"),
        (true, 0, &[("name", "^/(fir|sec)")], "second first"),
        (true, 0, &[("label", "tier=back")], "first"),
        (false, 0, &[("status", "exited")], "first"),
        (true, 0, &[("exited", "4")], "first"),
        (true, 0, &[("before", "second")], "first"),
        (true, 0, &[("since", "first"), ("status", "created")], "third"),
        (true, 0, &[("id", &second[..10])], "second"),
        (
            true,
            0,
            &[("network", "none"), ("volume", "/bin/busybox")],
            "third second first",
        ),
        (true, 0, &[("ancestor", "nothing")], ""),
    ] {
        let views = names(all, limit, filters).await.expect("valid");
        let found: Vec<&str> = views.iter().map(|view| view.record.name.as_str()).collect();
        assert_eq!(found.join(" "), expected, "{filters:?}");
    }
    let error = names(true, 0, &[("color", "red")]).await.expect_err("unknown");
    assert_eq!(error.to_string(), "invalid filter 'color'");

    let mut pruned = containers.prune(&Default::default()).await.expect("pruned").deleted;
    pruned.sort();
    let mut expected = vec![first, third];
    expected.sort();
    assert_eq!(pruned, expected);
    world.remove(&second).await;
    world.assert_clean();
}

/// On cgroup v1 a directory is no use until its cpuset is filled in: whoever comes between must not fail.
async fn the_first_of_a_cgroup_parent_start_at_once() {
    let world = World::new().await;
    for round in 0..5 {
        let own = format!("{}/round-{round}", parent());
        let starts = (0..4).map(|_| {
            let mut options = shell("true");
            options.host_config.cgroup_parent = format!("/{own}");
            let engine = world.engine().clone();
            tokio::spawn(async move {
                let containers = engine.containers();
                let created = containers.create_on(Base::default(), options).await.expect("created");
                let end = containers
                    .wait(&created.id, WaitCondition::NextExit)
                    .await
                    .expect("waiting");
                containers.start(&created.id).await.expect("started");
                end.await;
                created.id
            })
        });
        for start in starts.collect::<Vec<_>>() {
            world.remove(&start.await.expect("no panic")).await;
        }
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(hierarchy.path().join(&own));
        }
        let _ = std::fs::remove_dir(std::path::Path::new("/sys/fs/cgroup").join(&own));
    }
    world.assert_clean();
}
