# The project's own tests, as programs that were built outside.

tested() { # tested PACKAGE PATTERN
	cp "/vm/${1//\//-}.test" /opt/
	(cd "$src/$1" && "/opt/${1//\//-}.test" -test.run "$2" -test.timeout 20m)
}

tests_mounts() { tested internal/rootfs '^(TestMountedIsMerged|TestAttachMany|TestOldKernels|TestReadOnly.*)$'; }
tests_sandbox() { tested internal/sandbox '^Test(SecondVersion|Device|Limit|OOM|Delegated|Run|Mask|Exec|Created)'; }
tests_freezer() { tested internal/container '^Test(Freez|Process|Security|Owners)'; }
tests_limits() { tested cmd/nacre '^TestScripts$/^(container_update|build_limits|top_stats|container_pause_guest)$'; }
tests_run() { tested cmd/nacre '^TestScripts$/^(run_isolated|run_devices|run_security|run_groups|run_mount|run_namespaces|exec_run|diff_commit_export|cp_paths|cp_owners)$'; }
