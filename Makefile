# Thin fronts of `cargo xtask`: read there what each does.
.PHONY: test campaign demo demo-ha faults faults-doctor bench ci tidy
test campaign demo demo-ha faults faults-doctor bench ci tidy:
	cargo xtask $@
