# Thin fronts of `cargo xtask`: read there what each does.
.PHONY: test ci tidy
test:
	cargo xtask test
ci:
	cargo xtask ci
tidy:
	cargo xtask tidy
