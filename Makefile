# Thin fronts of `cargo xtask`: read there what each does.
.PHONY: test demo bench ci tidy
test demo bench ci tidy:
	cargo xtask $@
