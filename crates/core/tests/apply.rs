//! What an apply leaves behind when nobody disturbs it (DESIGN §8).

mod apply_world;

use apply_world::drive::Running;
use apply_world::scene::*;

#[test]
fn i6_a_fence_reaches_all_layers_and_leaves_everything_else_to_the_byte() {
    for scene in SCENES {
        let before = scene.world();
        let mut world = before.clone();
        let outcome = Running::new(plan(&world, &fence()), "a").to_end(&mut world);
        assert_eq!(done(&outcome).not_as_planned, Vec::<String>::new(), "{scene:?}");
        assert_same(&world, &expected(&before, &fence()), &format!("{scene:?}"));
        for place in apply_world::LAYERS {
            assert_eq!(in_service(&world, place), vec![], "{scene:?} {place:?}");
        }
    }
}
