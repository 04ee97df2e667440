"""Jungle from nothing: breaks, bass, chords and colour made by synthesis alone.

Rooms, lower to higher:
    dsp       arrays, dice and filters
    effects   room, tape, dynamics, mastering
    drums     voices and kits
    breaks    grooves played on a kit and recorded; what is struck on each 16th
    chops     breaks cut into hits and put together again
    harmony   keys, chords, pads, stabs, bells, voices
    bass      lines and what plays them
    textures  risers, noise, impacts, places
    score     what happens when: the plan of a track, before a sample is made
    drumming  the drum bus of a plan
    track     a plan turned into sound
    library   a set of tracks of either mode turned into files

and those of the broad mode, which makes what jungle does not hold (tones, notes, voices, weather, near silence):
    tune        key, tempo, chords, and figures played on them
    plucks      strings, bars, hammers, and how notes are played
    bells       bells, gongs, frequency modulation
    held        drones, bowed lines, organs, pads, chords
    sweeps      glides, birds, theremins, zaps
    speech      voices that say nothing
    noises      weather, machines, radio, grains, colours
    percussion  blows with silence between them
    broad             the plan of a track
    broad_mix         a plan turned into sound

Sound is float32, [2, T] for stereo and [T] for mono, at `dsp.SR` = 44,100 Hz. The same seed gives the same samples:
every part of a track has dice of its own (`dsp.rng_of`), and nothing here depends on the number of threads.
"""
