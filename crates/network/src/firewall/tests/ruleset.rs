//! What `nft` says that the table is.
use super::world::{Setting, run, world};

#[test]
fn nothing_is_left_of_networks_and_ports_that_are_gone() {
    world(Setting::default(), |world| {
        let list = || run(&["nft", "list", "table", "inet", "corten"]);
        world.firewall.rebuild(&[], &[]).expect("allowed");
        let empty = list();
        let ports = [super::world::rule(
            crate::model::Protocol::Sctp,
            "0.0.0.0",
            80,
            "10.8.0.2",
        )];
        world.firewall.add_network(&world.a).expect("allowed");
        world.firewall.publish(&ports).expect("allowed");
        assert!(list().contains("sctp . 80 : 10.8.0.2 . 80"), "{}", list());
        world.firewall.unpublish(&ports).expect("allowed");
        world.firewall.unpublish(&ports).expect("nothing to do");
        world.firewall.remove_network("br-a").expect("allowed");
        world.firewall.remove_network("br-a").expect("nothing to do");
        assert_eq!(list(), empty);
    });
}
