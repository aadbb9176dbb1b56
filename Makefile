# Thin fronts of `cargo xtask`: read there what each does.
.PHONY: test demo ci tidy
test demo ci tidy:
	cargo xtask $@
