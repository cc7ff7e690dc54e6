//! One probe of one endpoint, within one deadline.
