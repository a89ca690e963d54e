"""Before going live: does the pipeline do on this site's own exams what it was measured to do?"""
