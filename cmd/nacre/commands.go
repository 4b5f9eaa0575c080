package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// command is a command of nacre's by its name, and how it is made.
type command struct {
	name string
	make func(*app) *cobra.Command
}

// commands are all that may follow "nacre", but for those on containers.
var commands = [...]command{
	{"build", buildCommand},
	{"images", imagesCommand},
	{"image", imageCommand},
	{"history", historyCommand},
	{"inspect", inspectCommand},
	{"tag", tagCommand},
	{"rmi", rmiCommand},
	{"save", saveCommand},
	{"load", loadCommand},
	{"import", importCommand},
	{"container", containerCommand},
	{"ps", psCommand},
	{"pull", pullCommand},
	{"push", pushCommand},
	{"copy", copyCommand},
	{"sync", syncCommand},
	{"registry", registryCommand},
	{"manifest", manifestCommand},
	{"login", loginCommand},
	{"logout", logoutCommand},
	{"serve", serveCommand},
	{"volume", volumeCommand},
	{"network", networkCommand},
	{"runtime", runtimeCommand},
	{"system", systemCommand},
	{"builder", builderCommand},
	{"version", versionCommand},
	{"info", infoCommand},
	{"completion", completionCommand},
}

// containerVerbs are the commands on containers that are there with and without "container" before them.
var containerVerbs = [...]command{
	{"run", runCommand},
	{"create", createCommand},
	{"start", startCommand},
	{"stop", stopCommand},
	{"restart", restartCommand},
	{"kill", killCommand},
	{"wait", waitCommand},
	{"rm", removeCommand},
	{"logs", logsCommand},
	{"attach", attachCommand},
	{"exec", execCommand},
	{"top", topCommand},
	{"stats", statsCommand},
	{"cp", cpCommand},
	{"diff", diffCommand},
	{"export", exportCommand},
	{"commit", commitCommand},
	{"rename", renameCommand},
	{"pause", pauseCommand},
	{"unpause", unpauseCommand},
	{"port", portCommand},
	{"update", updateCommand},
}

// addCommands gives root the command that args call. All commands with their flags take longer to
// make than a small one takes to run; they are there where args call none of them, as for help.
func addCommands(root *cobra.Command, a *app, args []string) {
	name := called(args)
	if words, ok := completing(args); ok {
		name = called(words[:len(words)-1])
	}
	for _, table := range [][]command{commands[:], containerVerbs[:]} {
		for _, c := range table {
			if c.name == name {
				root.AddCommand(c.make(a))
				return
			}
		}
	}
	for _, table := range [][]command{commands[:], containerVerbs[:]} {
		for _, c := range table {
			root.AddCommand(c.make(a))
		}
	}
	root.AddCommand(manualCommand(a)) // which is about all of them
}

// called is the first word of args that is no flag of nacre itself, nor its value. It is empty
// where there is none, or a flag before it that is not known here.
func called(args []string) string {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--root", arg == "--log-level", arg == "-l":
			i++ // its value
		case strings.HasPrefix(arg, "--root="), strings.HasPrefix(arg, "--log-level="), strings.HasPrefix(arg, "-l"):
		case strings.HasPrefix(arg, "-"):
			return ""
		default:
			return arg
		}
	}
	return ""
}
