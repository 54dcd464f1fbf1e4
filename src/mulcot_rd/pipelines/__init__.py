"""The pipelines, one a stage, in the order of the paper's Figure 2; nothing below imports them.

==================== =====================================================================================
data_preparation     A raw data set becomes posts: text, image, aspect and gold label (Section 3.1)
teacher_annotation   The teacher reasons about the training posts in two stages (Section 3.2, Eqs. 2 to 4)
assistant_training   The assistant learns to classify and to reason from them (Section 3.3.1, Eqs. 5 and 6)
data_expansion       Its correct reasonings join the teacher's; its soft labels are stored (Eqs. 7, 8 and 10)
student_distillation The student learns from hard and soft labels (Section 3.3.2, Eqs. 9 to 13)
preference_pairs     Reasonings that can be checked become pairs of a better and a worse one (not in the paper)
preference_optimisation
                     The student learns to prefer the better ones (not in the paper)
evaluation           Assistant and student answer the test posts and are scored (Section 4)
reporting            Every run on disk becomes the paper's tables and figures
prediction           A trained student judges posts that have no label; runs when it is asked for
delivery             The student becomes a checkpoint for others, with its card; runs when it is asked for
==================== =====================================================================================
"""

# Tag of a node that copes with inputs which are not on disk: they arrive empty instead of ending the run.
OPTIONAL_INPUTS = "optional_inputs"
