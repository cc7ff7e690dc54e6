//! File or saved state? A field that was edited in the file since it was last loaded wins; every other keeps its saved value.
