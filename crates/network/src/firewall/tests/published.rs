//! Published ports, as seen from the other host, from the host and from containers.
use super::world::{A1, A1_6, HOST, HOST6, OTHER, OTHER6, Setting, World, seen, world};

#[test]
fn the_other_host_is_seen_with_its_own_address() {
    world(Setting::default(), |world| {
        world.publish("0.0.0.0", 8080, A1);
        world.publish("::", 8080, A1_6);
        assert_eq!(seen(Some(&world.other), HOST, 8080), OTHER);
        assert_eq!(seen(Some(&world.other), HOST6, 8080), OTHER6);
        assert_eq!(seen(None, "127.0.0.1", 8080), "10.8.0.1");
        assert_eq!(seen(None, HOST, 8080), HOST);
        assert_eq!(seen(None, HOST6, 8080), HOST6);
        for (address, unpublished) in [(HOST, 8081), (A1, 80), (A1_6, 80)] {
            assert_eq!(seen(Some(&world.other), address, unpublished), "-", "{address}");
        }
    });
}

#[allow(unused)]
fn unused(_: &World) {}
