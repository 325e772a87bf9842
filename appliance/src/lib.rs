//! What keeps running on the high side. Today: the recipes of the reference images beside this
//! crate (`images/`, `runtime/`); the service and the console come with later releases.
