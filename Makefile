# Thin fronts of `cargo xtask`: read there what each does.
.PHONY: test campaign demo bench ci tidy
test campaign demo bench ci tidy:
	cargo xtask $@
