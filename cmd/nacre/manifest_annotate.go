package main

import (
	"strings"

	"nacre/internal/manifest"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// platformFlags change what a list says of an image.
type platformFlags struct {
	os, arch, variant, osVersion string
	osFeatures, annotations      []string
}

func (f *platformFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.os, "os", "", "operating system")
	fl.StringVar(&f.arch, "arch", "", "architecture")
	fl.StringVar(&f.variant, "variant", "", "variant of the architecture")
	fl.StringVar(&f.osVersion, "os-version", "", "version of the operating system")
	listVar(fl, &f.osFeatures, "os-features", "", "feature of the operating system; may be repeated, or a list with commas")
	listVar(fl, &f.annotations, "annotation", "", "KEY=VALUE to annotate the entry with; may be repeated")
}

func (f *platformFlags) read() (manifest.Platform, error) {
	p := manifest.Platform{OS: f.os, Architecture: f.arch, Variant: f.variant, OSVersion: f.osVersion}
	for _, s := range f.osFeatures {
		p.OSFeatures = append(p.OSFeatures, strings.Split(s, ",")...)
	}
	var err error
	p.Annotations, err = keyValues("--annotation", f.annotations)
	return p, err
}

func manifestAnnotateCommand(a *app) *cobra.Command {
	var f platformFlags
	cmd := &cobra.Command{
		Use:   "annotate [OPTIONS] MANIFEST_LIST IMAGE",
		Short: "Change what a manifest list says of an image",
		Long: `Change what a manifest list says of an image: its platform, where the image says a wrong one, and annotations. The
image is named as it was when it was added, or by its digest.`,
		Example:           "  nacre manifest annotate --os linux --arch arm --variant v7 registry.example.com/web:1 registry.example.com/web:1-arm",
		Args:              exactArgs(2, "annotate needs a manifest list and an image of it"),
		ValidArgsFunction: a.completeImages,
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.read()
			if err != nil {
				return err
			}
			return a.editList(cmd.Context(), args[0], func(l *manifest.Lists, x manifest.List) (manifest.List, error) {
				d, err := l.Entry(cmd.Context(), x, args[1])
				if err != nil {
					return x, err
				}
				return x.Annotate(d, p)
			})
		},
	}
	f.register(cmd.Flags())
	return cmd
}
